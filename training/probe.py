"""A short measurement at the start of a run: which number format and memory layout train fastest here.

Half-precision arithmetic pays for large convolutions on processors that have it, and costs small networks
more in conversions than it saves; which it is depends on model, batch and machine, so it is measured.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median

from lightning_fabric import Fabric

from training.loop import to_tensors
from training.objectives.base import Objective
from training.recipe import Recipe
from zoo.tasks import Arrays

WARM_UP = 2
STEPS = 4  # that are timed

Build = Callable[[Recipe], tuple[Objective, Fabric]]


def fastest(candidates: Sequence[Recipe], train: Arrays, build: Build) -> tuple[Recipe, dict[str, float]]:
    """The recipe whose steps on training examples are the quickest, and examples a second of each."""
    rates = [_examples_a_second(recipe, train, *build(recipe)) for recipe in candidates]
    best = candidates[rates.index(max(rates))]
    return best, {_label(recipe): rate for recipe, rate in zip(candidates, rates, strict=True)}


def _examples_a_second(recipe: Recipe, train: Arrays, objective: Objective, fabric: Fabric) -> float:
    size = recipe.batch_size or len(train["target"])
    batch = to_tensors({name: array[:size] for name, array in train.items()}, fabric)
    objective.network.train()
    seconds = []
    for _ in range(WARM_UP + STEPS):
        started = time.perf_counter()
        float(objective.step(batch)["loss"])  # waits for the device
        seconds.append(time.perf_counter() - started)
    return len(batch["target"]) / median(seconds[WARM_UP:])


def _label(recipe: Recipe) -> str:
    memory_format = getattr(recipe, "memory_format", None)
    return recipe.precision if memory_format is None else f"{recipe.precision}.{memory_format}"
