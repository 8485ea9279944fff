"""A short measurement at the start of a run, which finds the fastest number format and memory layout.

Half-precision arithmetic speeds up large convolutions on processors that have it, but costs small networks
more in conversions than it saves. It depends on model, batch and machine, so it is measured.
"""

import logging
import time
from collections.abc import Callable, Sequence
from statistics import median

from lightning_fabric import Fabric

from training.loop import to_tensors
from training.objectives.base import Objective
from training.recipe import Recipe
from zoo.tasks import Arrays

log = logging.getLogger(__name__)
WARM_UP = 2
STEPS = 4  # timed steps
HOPELESS = 8  # times slower than the best so far; emulated arithmetic is much slower still
SMALL = 16  # a sixteenth of a batch is enough to show that

Build = Callable[[Recipe], tuple[Objective, Fabric]]


def fastest(candidates: Sequence[Recipe], train: Arrays, build: Build) -> tuple[Recipe, dict[str, float]]:
    """Returns the recipe with the fastest training steps, and examples per second of each recipe.

    The rate is 0 for recipes that this processor cannot compute; the first recipe must work.
    """
    rates: list[float] = []
    for recipe in candidates:
        try:
            rates.append(_examples_a_second(recipe, train, *build(recipe), max(rates, default=0.0)))
        except RuntimeError as error:  # oneDNN has no LSTM in bf16 for processors with only AVX2
            if not rates:
                raise
            log.info("%s: cannot be computed here: %s", _label(recipe), error)
            rates.append(0.0)
    best = candidates[rates.index(max(rates))]
    return best, {_label(recipe): rate for recipe, rate in zip(candidates, rates, strict=True)}


def _examples_a_second(
    recipe: Recipe, train: Arrays, objective: Objective, fabric: Fabric, best: float
) -> float:
    """Returns examples per second of full batches, or of a small one if that is far slower than the best."""
    objective.network.train()
    size = recipe.batch_size or len(train["target"])

    def rate(rows: int, warm_up: int, steps: int) -> float:
        batch = to_tensors({name: array[:rows] for name, array in train.items()}, fabric)
        seconds = []
        for _ in range(warm_up + steps):
            started = time.perf_counter()
            float(objective.step(batch)["loss"])  # waits for the device
            seconds.append(time.perf_counter() - started)
        return len(batch["target"]) / median(seconds[warm_up:])

    small = rate(max(2, size // SMALL), 1, 1)  # batch normalisation needs two examples
    return small if small * HOPELESS < best else rate(size, WARM_UP, STEPS)


def _label(recipe: Recipe) -> str:
    memory_format = getattr(recipe, "memory_format", None)
    return recipe.precision if memory_format is None else f"{recipe.precision}.{memory_format}"
