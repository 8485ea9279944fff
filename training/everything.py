"""`make zoo`: every architecture on every data set that it has a recipe for, as far as not yet trained."""

import dataclasses
import json

from rich.console import Console

from training import promotion, tracking
from training.command import train_with_progress
from training.listing import leaderboard
from training.recipe import Recipe
from training.recipes import names, recipes
from zoo.errors import ZooError
from zoo.home import home
from zoo.tables import show_leaderboard


def train_everything() -> None:
    """Trains what has no champion yet and goes on with what was interrupted, the quickest recipes first.

    A recipe that fails does not keep the others from being trained; `ZooError` names those that did.
    """
    console = Console(stderr=True)
    wanted = plan()
    failed: dict[str, str] = {}
    for number, recipe in enumerate(wanted, start=1):
        if promotion.champion(recipe.model_name) is not None:
            continue
        console.print(f"[bold]{number} of {len(wanted)}[/bold] {recipe.model_name}")
        try:
            train_with_progress(recipe, interrupted(recipe))
        except ZooError as error:
            failed[recipe.model_name] = str(error)
    show_leaderboard(leaderboard(None))
    if failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise ZooError(f"{len(failed)} of {len(wanted)} could not be trained: {reasons}")


def plan() -> list[Recipe]:
    """Every recipe, each architecture's first one before all others."""
    ranked = [(place, recipe) for name in names() for place, recipe in enumerate(recipes(name).values())]
    return [recipe for _, recipe in sorted(ranked, key=lambda pair: pair[0])]


def interrupted(recipe: Recipe) -> str | None:
    """The run in which this very recipe was begun and not ended, if there is one."""
    wanted = json.loads(json.dumps(dataclasses.asdict(recipe)))  # tuples as lists
    for path in sorted((home() / "checkpoints").glob(f"*/{tracking.RECIPE}")):
        begun = json.loads(path.read_text(encoding="utf-8"))
        # What the recipe leaves to a measurement, the run has measured.
        same = all(value in ("auto", begun["recipe"].get(name)) for name, value in wanted.items())
        if begun["architecture"] == recipe.architecture and same:
            return path.parent.name
    return None
