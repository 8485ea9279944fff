"""The only training loop: epochs, shuffling, validation, early stopping, checkpoints.

Splits stay on the device as tensors; a batch is an index into them. The loop never waits for the device
within an epoch. Every epoch has its own seed, so that a resumed run is bit-identical to an uninterrupted
one.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from training.objectives.base import Objective, Tensors
from zoo.errors import TrainingDiverged
from zoo.tasks import Arrays
from zoo.tasks.base import rows_at_once

CHECKPOINT_SECONDS = 10.0  # between checkpoints; writing one takes milliseconds
POOL = 50  # batches whose examples are sorted by length together: saves padding, keeps the order random
DIVERGED = 1e4  # a loss this many times the first one counts as diverged

Points = dict[str, list[tuple[int, float]]]
"""Lists of (step, value) by metric."""


@dataclass(frozen=True)
class Plan:
    """Settings of a recipe that the loop needs."""

    epochs: int
    batch_size: int
    seed: int
    patience: int | None
    log_every: int
    log_steps: int


@dataclass
class Progress:
    """Progress of a run; with the objective's state, everything that a resumed run needs."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    first_loss: float | None = None
    best_loss: float = float("inf")
    best_epoch: int = 0
    history: Points = field(default_factory=dict)


Observer = Callable[[Progress, Points], None]
"""Called after each logged epoch, with the progress and the new points."""


def fit(
    objective: Objective,
    train: Arrays,
    validation: Arrays | None,
    plan: Plan,
    fabric: Fabric,
    observe: Observer,
    checkpoint: Path | None = None,
    lengths: NDArray[np.int64] | None = None,
) -> Progress:
    """Trains in place and returns the progress; resumes from `checkpoint` if that file exists.

    If the `lengths` [N] of the training examples are given, batches contain examples of similar length.

    With early stopping (`plan.patience`), the best weights are restored; otherwise the last ones stay. Raises
    `TrainingDiverged`, with the step, if the loss diverges.
    """
    data = to_tensors(train, fabric)
    held_out = to_tensors(validation, fabric) if validation else None
    like = None if lengths is None else torch.from_numpy(lengths)
    progress, best = Progress(), None
    if checkpoint is not None and checkpoint.exists():
        progress, best = _load(checkpoint, objective)
        observe(progress, progress.history)
    saved = time.monotonic()
    steps: list[Tensors] = []  # since the last logged epoch
    while progress.epoch < plan.epochs and not _out_of_patience(progress, plan):
        started = time.perf_counter()
        objective.network.train()
        steps += _epoch(objective, data, plan, fabric, progress.epoch, like)
        progress.epoch += 1
        logged = progress.epoch % plan.log_every == 0 or progress.epoch == plan.epochs
        if not logged:
            progress.seconds += time.perf_counter() - started
            continue
        points = _points_of(steps, progress, plan)
        steps = []
        if held_out is not None:
            values = validate(objective, held_out)
            points |= {f"validation_{name}": [(progress.epoch, value)] for name, value in values.items()}
            if values["loss"] < progress.best_loss:
                progress.best_loss, progress.best_epoch = values["loss"], progress.epoch
                best = objective.weights() if plan.patience is not None else None
        progress.seconds += time.perf_counter() - started
        for name, added in points.items():
            progress.history.setdefault(name, []).extend(added)
        observe(progress, points)
        if checkpoint is not None and fabric.is_global_zero and time.monotonic() - saved > CHECKPOINT_SECONDS:
            _save(checkpoint, objective, progress, best)
            saved = time.monotonic()
    if best is not None:
        objective.load_weights(best)
    objective.network.eval()
    return progress


@torch.no_grad()
def validate(objective: Objective, split: Tensors) -> dict[str, float]:
    """Returns the means of the objective's validation metrics over a split."""
    objective.network.eval()
    rows = len(split["target"])
    sums: Tensors = {}
    size = rows_at_once(tensor.shape for tensor in split.values())
    for start in range(0, rows, size):
        batch = {name: tensor[start : start + size] for name, tensor in split.items()}
        weight = len(batch["target"]) / rows
        for name, value in objective.validate(batch).items():
            sums[name] = sums[name] + weight * value if name in sums else weight * value
    return {name: float(value) for name, value in sums.items()}


def to_tensors(split: Arrays, fabric: Fabric) -> Tensors:
    """Copies a split to the device; floats in torch's default dtype, other types unchanged."""
    tensors = {name: torch.from_numpy(array) for name, array in split.items()}
    floating = torch.get_default_dtype()
    return {
        name: tensor.to(fabric.device, floating if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in tensors.items()
    }


def seed_of(*parts: int) -> int:
    """Returns a 63-bit seed, which is different if any of the parts is different."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _epoch(
    objective: Objective, data: Tensors, plan: Plan, fabric: Fabric, epoch: int, lengths: Tensor | None
) -> list[Tensors]:
    """Trains for one epoch; returns the values of each step, still on the device."""
    rows = len(data["target"])
    torch.manual_seed(seed_of(plan.seed, epoch, fabric.global_rank))  # dropout
    if not 0 < plan.batch_size < rows and fabric.world_size == 1:
        return [objective.step(data)]
    generator = torch.Generator().manual_seed(seed_of(plan.seed, epoch))
    order = torch.randperm(rows, generator=generator)
    share = rows // fabric.world_size  # the same number of steps on each device
    order = order[fabric.global_rank * share : (fabric.global_rank + 1) * share]
    size = max(1, (plan.batch_size or rows) // fabric.world_size)
    batches = torch.split(order, size) if lengths is None else by_length(order, lengths, size, generator)
    return [
        objective.step({name: tensor[index.to(fabric.device)] for name, tensor in data.items()})
        for index in batches
    ]


def by_length(order: Tensor, lengths: Tensor, size: int, generator: torch.Generator) -> list[Tensor]:
    """Returns batches of `size` in random order, whose examples are near in `order` and similar in length."""
    pools = torch.split(order, POOL * size)
    ranked = [pool[lengths[pool].argsort(stable=True)] for pool in pools]
    batches = [batch for pool in ranked for batch in torch.split(pool, size)]
    return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]


def _points_of(steps: list[Tensors], progress: Progress, plan: Plan) -> Points:
    """Returns means since the last logged epoch and every N-th batch loss; checks for divergence."""
    scalars = {name: torch.stack([step[name] for step in steps]).tolist() for name in steps[0]}
    values = scalars["loss"]
    if progress.first_loss is None:
        progress.first_loss = values[0]
    limit = DIVERGED * (1 + abs(progress.first_loss))
    for offset, value in enumerate(values, start=1):
        if not abs(value) <= limit:  # also true if it is NaN
            raise TrainingDiverged(
                f"the loss was {value:.3g} at step {progress.step + offset} (epoch {progress.epoch}), after "
                f"{progress.first_loss:.3g} at the first step; try a smaller learning rate"
            )
    first = progress.step
    progress.step += len(values)
    every = [
        (first + i, value) for i, value in enumerate(values, start=1) if (first + i) % plan.log_steps == 0
    ]
    means = {f"train_{name}": [(progress.epoch, sum(of) / len(of))] for name, of in scalars.items()}
    return {**means, "batch_loss": every}


def _out_of_patience(progress: Progress, plan: Plan) -> bool:
    return plan.patience is not None and progress.epoch - progress.best_epoch >= plan.patience


def _save(path: Path, objective: Objective, progress: Progress, best: Tensors | None) -> None:
    staging = path.with_suffix(".tmp")
    torch.save({"objective": objective.state(), "progress": asdict(progress), "best": best}, staging)
    staging.replace(path)


def _load(path: Path, objective: Objective) -> tuple[Progress, Tensors | None]:
    state: dict[str, Any] = torch.load(path, weights_only=True)
    objective.load_state(state["objective"])
    saved = {f.name: state["progress"][f.name] for f in fields(Progress)}
    return Progress(**saved), state["best"]
