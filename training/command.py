"""`zoo train`: trains a recipe from the command line, with a progress bar."""

import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from training import tracking
from training.loop import Points, Progress
from training.pipeline import RunResult
from training.pipeline import train as train_recipe
from training.recipe import Recipe
from training.recipes import names, recipe_for, restore
from zoo.errors import NotFound
from zoo.tables import show, show_record


@dataclasses.dataclass(frozen=True)
class Resume:
    """Resume a run that was killed: zoo train --resume RUN_ID."""

    resume: str
    """Id of the run to resume."""
    json: bool = False
    """Print the result as one JSON document."""


def train(words: Sequence[str]) -> None:
    """Runs `zoo train` with the given command-line arguments."""
    if any(word == "--resume" or word.startswith("--resume=") for word in words):
        given = tyro.cli(Resume, args=words, prog="zoo train")
        path = tracking.scratch(given.resume) / tracking.RECIPE
        if not path.exists():
            raise NotFound(f"run {given.resume} cannot be resumed: it has ended, or was started elsewhere")
        recipe = restore(json.loads(path.read_text(encoding="utf-8")))
        result = train_with_progress(recipe, given.resume)
        as_json = given.json
    else:
        recipe, as_json = _parse(words)
        result = train_with_progress(recipe)
    if result is not None:
        show(dataclasses.asdict(result), as_json, show_record)


def train_with_progress(recipe: Recipe, resume: str | None = None) -> RunResult | None:
    """Trains a recipe with a progress bar on stderr that shows epochs and the latest losses."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    with progress_bars() as bars:
        bar = bars.add_task(recipe.model_name, total=recipe.epochs, figures="loading")

        def watch(progress: Progress, points: Points) -> None:
            bars.update(bar, completed=progress.epoch, figures=losses(points))

        result = train_recipe(recipe, watch, resume)
        if result is not None:
            figures = f"test {result.metric} {result.value:.4f}"
            bars.update(bar, total=bars.tasks[0].completed, figures=figures)
    return result


def progress_bars() -> Bars:
    """Returns progress bars on stderr that count epochs; each task has a text field `figures`."""
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def losses(points: Points) -> str:
    """Formats the latest training loss, followed by the validation loss if there is one."""
    shown = [points[name][-1][1] for name in ("train_loss", "validation_loss") if name in points]
    return "loss " + " / ".join(f"{value:.4f}" for value in shown)


def _parse(words: Sequence[str]) -> tuple[Recipe, bool]:
    """Returns the recipe, with the defaults of the data set in `--dataset`, and True for output in JSON."""
    if not words or words[0].startswith("-") or words[0] not in names():
        defaults = {name: recipe_for(name) for name in names()}
        tyro.cli(tyro.extras.subcommand_type_from_defaults(defaults), args=words, prog="zoo train")
        sys.exit(2)  # without an architecture there is nothing to train
    default: Any = recipe_for(words[0], _option(words, "--dataset"))
    invocation = dataclasses.make_dataclass(
        type(default).__name__,
        [
            ("recipe", Annotated[type(default), tyro.conf.arg(name="")], default),
            ("json", bool, False),
        ],
    )
    invocation.__doc__ = type(default).__doc__
    given: Any = tyro.cli(invocation, args=words[1:], prog=f"zoo train {words[0]}")
    return given.recipe, given.json


def _option(words: Sequence[str], name: str) -> str | None:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None
