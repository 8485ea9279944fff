"""`make zoo`: every architecture on every data set that it has a recipe for, as far as not yet trained."""

from training import promotion
from training.listing import leaderboard
from training.recipe import Recipe
from training.recipes import names, recipes
from training.side_by_side import WORKERS, train_side_by_side
from zoo.errors import ZooError
from zoo.tables import show_leaderboard


def train_everything(workers: int = WORKERS, *, long: bool = False) -> None:
    """Trains what has no champion yet and goes on with what was interrupted, the quickest recipes first.

    `long` adds the recipes that take a quarter of an hour or more.
    A recipe that fails does not keep the others from being trained; `ZooError` names those that did.
    """
    wanted = [recipe for recipe in plan(long=long) if promotion.champion(recipe.model_name) is None]
    outcomes = train_side_by_side(wanted, workers)
    show_leaderboard(leaderboard(None))
    failed = [f"{name}: {error}" for name, error in outcomes.items() if isinstance(error, ZooError)]
    if failed:
        raise ZooError(f"{len(failed)} of {len(wanted)} could not be trained: {'; '.join(failed)}")


def plan(*, long: bool = False) -> list[Recipe]:
    """Every recipe, or every one that does not take long; each architecture's first one before all others."""
    ranked = [
        (place, recipe) for name in names() for place, recipe in enumerate(recipes(name, long=long).values())
    ]
    return [recipe for _, recipe in sorted(ranked, key=lambda pair: pair[0])]
