"""The measurement that chooses a number format: the quickest wins, the hopeless cost little."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from training.objectives.base import Objective, Tensors
from training.probe import HOPELESS, STEPS, WARM_UP, fastest
from training.recipe import Recipe
from training.recipes import recipe_for

ROWS = 64
TRAIN = {"features": np.zeros((1000, 2)), "target": np.zeros(1000, np.int64)}
CANDIDATES = [
    replace(recipe_for("mlp", "xor"), batch_size=ROWS, precision=precision)  # type: ignore[arg-type]
    for precision in ("32-true", "bf16-mixed", "64-true")
]


class Sleeping(Objective):
    """Takes its time for each row, and remembers the sizes of its batches."""

    def __init__(self, seconds: float) -> None:
        super().__init__(nn.Identity())
        self.seconds = seconds
        self.rows: list[int] = []

    def step(self, batch: Tensors) -> Tensors:
        self.rows.append(len(batch["target"]))
        time.sleep(self.seconds * len(batch["target"]))
        return {"loss": torch.zeros(())}

    def validate(self, batch: Tensors) -> Tensors:
        raise NotImplementedError

    def export_module(self) -> nn.Module:
        raise NotImplementedError


def chosen(seconds: dict[str, float]) -> tuple[Recipe, dict[str, float], dict[str, Sleeping]]:
    objectives = {precision: Sleeping(of) for precision, of in seconds.items()}
    best, rates = fastest(
        CANDIDATES, TRAIN, lambda recipe: (objectives[recipe.precision], Fabric(accelerator="cpu"))
    )
    return best, rates, objectives


@pytest.mark.parametrize("quickest", range(len(CANDIDATES)))
def test_the_quickest_is_chosen(quickest: int) -> None:
    precisions = [recipe.precision for recipe in CANDIDATES]
    best, rates, _ = chosen({p: 1e-4 if i == quickest else 4e-4 for i, p in enumerate(precisions)})
    assert best is CANDIDATES[quickest]
    assert list(rates) == precisions
    assert max(rates, key=lambda name: rates[name]) == precisions[quickest]


def test_what_is_far_slower_sees_small_batches_only() -> None:
    quick = 1e-3  # long enough for what else the machine does not to count
    slow = quick * HOPELESS * 3
    _, rates, objectives = chosen({"32-true": quick, "bf16-mixed": slow, "64-true": quick})
    assert objectives["bf16-mixed"].rows == [4, 4]
    assert rates["bf16-mixed"] < rates["32-true"] / HOPELESS
    assert objectives["64-true"].rows.count(ROWS) == WARM_UP + STEPS


class Impossible(Sleeping):
    """What this processor cannot compute."""

    def step(self, batch: Tensors) -> Tensors:
        raise RuntimeError("could not create a primitive descriptor")


def test_what_cannot_be_computed_is_not_chosen() -> None:
    objectives = {"32-true": Sleeping(1e-5), "bf16-mixed": Impossible(0), "64-true": Sleeping(2e-5)}

    def build(recipe: Recipe) -> tuple[Objective, Fabric]:
        return objectives[recipe.precision], Fabric(accelerator="cpu")

    best, rates = fastest(CANDIDATES, TRAIN, build)
    assert best is CANDIDATES[0]
    assert rates["bf16-mixed"] == 0
    with pytest.raises(RuntimeError, match="primitive"):
        fastest(CANDIDATES[1:], TRAIN, build)
