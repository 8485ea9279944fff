"""The training part of `zoo quickstart`, a separate process: `python -m training.quickstart`."""

import sys

from training import promotion
from training.listing import leaderboard
from training.recipes import names, recipes
from training.side_by_side import train_side_by_side
from training.store import connect
from zoo.errors import ZooError
from zoo.operating_system import interrupt_on_signals
from zoo.tables import show_leaderboard


def train_quick_recipes() -> None:
    """Trains the first recipe of each architecture unless it has a champion, and prints the leaderboard."""
    client = connect()
    firsts = [list(recipes(name, long=False).values())[:1] for name in names()]
    quick = [recipe for first in firsts for recipe in first]
    untrained = [recipe for recipe in quick if promotion.champion_of(client, recipe.model_name) is None]
    for name, outcome in train_side_by_side(untrained).items():
        if isinstance(outcome, ZooError):
            raise outcome
        if not outcome.champion:
            raise ZooError(f"{name} was not promoted: {outcome.reason}")
    show_leaderboard(leaderboard(None))


if __name__ == "__main__":
    interrupt_on_signals()  # SIGTERM also reaches the training processes and ends them
    try:
        train_quick_recipes()
    except ZooError as error:
        sys.exit(f"zoo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
