"""Concurrent trainings, each in a separate process with its share of the processor's cores.

Many networks this small gain little from a second core. Measured on two cores without AVX-512, two concurrent
trainings took as long as two in sequence for LeNet-5; they were 1.2 to 1.4 times as fast for AlexNet, 1.5
times for the GAN and 1.6 times for VGG16.
"""

import dataclasses
import json
import logging
import multiprocessing
import queue
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from logging.handlers import QueueHandler

import torch
from rich.markup import escape
from rich.progress import TaskID

from training import tracking
from training.command import losses, progress_bars
from training.loop import Points, Progress
from training.pipeline import RunResult, train
from training.recipe import Recipe
from zoo.cpu_cores import cpu_cores
from zoo.errors import InvalidInput, ZooError
from zoo.home import home

WORKERS = 2
POLL_SECONDS = 0.2  # between checks of the trainings' progress

Outcome = RunResult | ZooError
News = tuple[str, int, str] | logging.LogRecord
"""A model's name, epoch and losses, or a log record of a warning."""


def train_side_by_side(recipes: Sequence[Recipe], workers: int = WORKERS) -> dict[str, Outcome]:
    """Trains recipes of different models, or resumes interrupted runs; returns each outcome by model name.

    A recipe's prerequisites are trained before it. On stderr, a progress bar shows each running training, and
    a line its outcome.
    """
    if workers < 1:
        raise InvalidInput(f"workers must be at least 1, not {workers}")
    context = multiprocessing.get_context("spawn")  # spawn, because torch's threads do not survive a fork
    news: multiprocessing.Queue[News] = context.Queue()
    threads = max(1, min(torch.get_num_threads(), cpu_cores()) // workers)
    waiting, outcomes = list(recipes), dict[str, Outcome]()
    running: dict[Future[RunResult | None], Recipe] = {}
    shown: dict[str, TaskID] = {}  # progress bars by model name
    with progress_bars() as bars, ProcessPoolExecutor(workers, context, _begin, (news, threads)) as pool:
        while waiting or running:
            while len(running) < workers and (recipe := ready(waiting, running.values())) is not None:
                waiting.remove(recipe)
                running[pool.submit(_work, recipe)] = recipe
                shown[recipe.model_name] = bars.add_task(
                    recipe.model_name, total=recipe.epochs, figures="loading"
                )
            done, _ = wait(running, POLL_SECONDS, FIRST_COMPLETED)
            for item in _drain(news):
                if isinstance(item, logging.LogRecord):
                    bars.console.print(item.getMessage(), markup=False)
                elif item[0] in shown:
                    bars.update(shown[item[0]], completed=item[1], figures=item[2])
            for future in done:
                name = running.pop(future).model_name
                bars.remove_task(shown.pop(name))
                outcomes[name] = _outcome(future)
                ended = f"[bold]{len(outcomes)} of {len(recipes)}[/bold] {name}"
                bars.console.print(f"{ended}: {_in_words(outcomes[name])}")
    return outcomes


def ready(waiting: Sequence[Recipe], running: Collection[Recipe]) -> Recipe | None:
    """Returns the first recipe without untrained prerequisites among the given recipes, or None."""
    unfinished = {recipe.model_name for recipe in (*waiting, *running)}
    return next(
        (r for r in waiting if unfinished.isdisjoint(p.model_name for p in r.prerequisites())),
        None,
    )


def interrupted(recipe: Recipe) -> str | None:
    """Returns the id of an unfinished run of exactly this recipe, or None."""
    wanted = json.loads(json.dumps(dataclasses.asdict(recipe)))  # turns tuples into lists
    for path in sorted((home() / "checkpoints").glob(f"*/{tracking.RECIPE}")):
        begun = json.loads(path.read_text(encoding="utf-8"))
        # The run has replaced the recipe's `auto` by measured values.
        same = all(value in ("auto", begun["recipe"].get(name)) for name, value in wanted.items())
        if begun["architecture"] == recipe.architecture and same:
            return path.parent.name
    return None


def _outcome(future: "Future[RunResult | None]") -> Outcome:
    try:
        result = future.result()
    except BrokenProcessPool as error:
        raise ZooError(
            "a training's process was killed; was there enough memory? zoo train-all --workers 1 needs less"
        ) from error
    except ZooError as error:
        return error
    assert result is not None  # it is None only in the process of a second device
    return result


def _in_words(outcome: Outcome) -> str:
    if isinstance(outcome, ZooError):
        return f"[red]failed[/red]: {escape(str(outcome))}"
    role = "champion" if outcome.champion else f"not promoted: {escape(outcome.reason)}"
    return f"{outcome.metric} {outcome.value:.4f} after {outcome.seconds:.1f} s, {role}"


def _drain(news: "multiprocessing.Queue[News]") -> Iterable[News]:
    while True:
        try:
            yield news.get_nowait()
        except queue.Empty:
            return


# Code of the training processes

_news: "multiprocessing.Queue[News]"


def _begin(news: "multiprocessing.Queue[News]", threads: int) -> None:
    global _news  # noqa: PLW0603  # the way to give a pool's processes a queue
    _news = news
    torch.set_num_threads(threads)
    logging.basicConfig(level=logging.WARNING, handlers=[QueueHandler(news)])


def _work(recipe: Recipe) -> RunResult | None:
    def watch(progress: Progress, points: Points) -> None:
        _news.put((recipe.model_name, progress.epoch, losses(points)))

    return train(recipe, watch, interrupted(recipe))
