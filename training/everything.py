"""`make zoo`: trains every recipe that has no champion yet."""

from training import promotion
from training.listing import leaderboard
from training.recipe import Recipe
from training.recipes import names, recipes
from training.side_by_side import WORKERS, train_side_by_side
from zoo.errors import ZooError
from zoo.tables import show_leaderboard


def train_everything(workers: int = WORKERS, *, long: bool = False) -> None:
    """Trains all recipes that have no champion yet, and resumes interrupted runs, in the order of `plan`.

    `long` adds the recipes that take 15 minutes or more. If a recipe fails, the others are still trained;
    in the end, `ZooError` names those that failed.
    """
    wanted = [recipe for recipe in plan(long=long) if promotion.champion(recipe.model_name) is None]
    outcomes = train_side_by_side(wanted, workers)
    show_leaderboard(leaderboard(None))
    failed = [f"{name}: {error}" for name, error in outcomes.items() if isinstance(error, ZooError)]
    if failed:
        raise ZooError(f"{len(failed)} of {len(wanted)} could not be trained: {'; '.join(failed)}")


def plan(*, long: bool = False) -> list[Recipe]:
    """Returns every recipe, long ones only if `long`; the first recipe of each architecture comes first."""
    ranked = [
        (place, recipe) for name in names() for place, recipe in enumerate(recipes(name, long=long).values())
    ]
    return [recipe for _, recipe in sorted(ranked, key=lambda pair: pair[0])]
