"""`make zoo`: every architecture on every data set that it has a recipe for, as far as not yet trained.

Trainings run side by side, each in a process of its own with its share of the cores: networks this small
gain little from a second one. On two cores without AVX-512, two trainings at once came forward 1.2 to 1.6
times as fast as one after the other.
"""

import dataclasses
import json
import logging
import multiprocessing
import queue
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from logging.handlers import QueueHandler
from typing import Any

import torch

from training import promotion, tracking
from training.command import losses, progress_bars
from training.listing import leaderboard
from training.loop import Points, Progress
from training.pipeline import RunResult, train
from training.recipe import Recipe
from training.recipes import names, recipes
from zoo.errors import InvalidInput, ZooError
from zoo.home import home
from zoo.tables import show_leaderboard

POLL_SECONDS = 0.2  # between looks at how far the trainings are

News = tuple[str, int, str] | logging.LogRecord
"""A model's name, its epoch and its losses; or a warning."""


def train_everything(workers: int) -> None:
    """Trains what has no champion yet and goes on with what was interrupted, the quickest recipes first.

    A recipe that fails does not keep the others from being trained; `ZooError` names those that did.
    """
    if workers < 1:
        raise InvalidInput(f"workers must be at least 1, not {workers}")
    wanted = plan()
    waiting = [recipe for recipe in wanted if promotion.champion(recipe.model_name) is None]
    failed = _train(waiting, len(wanted), workers)
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


def _train(waiting: list[Recipe], total: int, workers: int) -> dict[str, str]:
    """Trains side by side, with a bar for each that runs; why some could not be trained, by name."""
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    news: multiprocessing.Queue[News] = context.Queue()
    threads = max(1, torch.get_num_threads() // workers)
    running: dict[Future[RunResult | None], Recipe] = {}
    failed: dict[str, str] = {}
    ended = total - len(waiting)
    with (
        progress_bars() as bars,
        ProcessPoolExecutor(workers, context, _begin, (news, threads)) as pool,
    ):
        tasks: dict[str, Any] = {}  # bars, by model
        while waiting or running:
            while len(running) < workers and (recipe := _next(waiting, running.values())) is not None:
                waiting.remove(recipe)
                running[pool.submit(_work, recipe)] = recipe
                name = recipe.model_name
                tasks[name] = bars.add_task(name, total=recipe.epochs, figures="loading")
            done, _ = wait(running, POLL_SECONDS, FIRST_COMPLETED)
            for item in _drain(news):
                if isinstance(item, logging.LogRecord):
                    bars.console.print(item.getMessage())
                elif item[0] in tasks:
                    bars.update(tasks[item[0]], completed=item[1], figures=item[2])
            for future in done:
                name, ended = running.pop(future).model_name, ended + 1
                bars.remove_task(tasks.pop(name))
                said, error = _outcome(future)
                if error is not None:
                    failed[name] = error
                bars.console.print(f"[bold]{ended} of {total}[/bold] {name}: {said}")
    return failed


def _next(waiting: list[Recipe], running: Iterable[Recipe]) -> Recipe | None:
    """The first one for which everything that it needs has been trained."""
    unfinished = {recipe.model_name for recipe in (*waiting, *running)}
    return next(
        (r for r in waiting if unfinished.isdisjoint(p.model_name for p in r.prerequisites())),
        None,
    )


def _outcome(future: "Future[RunResult | None]") -> tuple[str, str | None]:
    """How a training ended, in words, and why it failed if it did."""
    try:
        result = future.result()
    except BrokenProcessPool as error:
        raise ZooError("a training's process was killed; is there enough memory? --workers 1") from error
    except ZooError as error:
        return f"[red]failed[/red]: {error}", str(error)
    assert result is not None  # only a second device's process has none
    role = "champion" if result.champion else f"not promoted: {result.reason}"
    return f"{result.metric} {result.value:.4f}, {result.seconds:.1f} s, {role}", None


def _drain(news: "multiprocessing.Queue[News]") -> Iterable[News]:
    while True:
        try:
            yield news.get_nowait()
        except queue.Empty:
            return


# In a process that trains

_news: "multiprocessing.Queue[News]"


def _begin(news: "multiprocessing.Queue[News]", threads: int) -> None:
    global _news  # noqa: PLW0603  # how a pool hands its processes a queue
    _news = news
    torch.set_num_threads(threads)
    logging.basicConfig(level=logging.WARNING, handlers=[QueueHandler(news)])


def _work(recipe: Recipe) -> RunResult | None:
    def watch(progress: Progress, points: Points) -> None:
        _news.put((recipe.model_name, progress.epoch, losses(points)))

    return train(recipe, watch, interrupted(recipe))
