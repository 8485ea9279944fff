"""Runs of a study, nested under one parent run, and measurements that several studies use."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training import tracking
from training.loop import Observer, Points, Progress, to_tensors, validate
from training.pipeline import Prepared, prepare, torch_settings, train_prepared
from training.recipe import Recipe, flatten


@dataclass(frozen=True)
class Trial:
    """One nested run of a recipe, prepared but not yet trained."""

    log: tracking.RunLog
    prepared: Prepared

    def train(self, watch: Observer | None = None) -> Progress:
        """Trains and logs every point."""

        def observe(progress: Progress, points: Points) -> None:
            self.log.points(points)
            if watch is not None:
                watch(progress, points)

        return train_prepared(self.prepared, observe)

    def measure(self, split: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """Returns the objective's validation metrics on a split, without dropout."""
        prepared = self.prepared
        return validate(prepared.objective, to_tensors(dict(split), prepared.fabric))

    def parameters_by_step(self) -> list[NDArray[np.float64]]:
        """Returns a list with all parameters as one vector; each later step appends its vector."""
        network = self.prepared.objective.network

        def vector(*_: object) -> None:
            path.append(torch.nn.utils.parameters_to_vector(network.parameters()).detach().double().numpy())

        path: list[NDArray[np.float64]] = []
        vector()
        self.prepared.objective.optimizers[0].register_step_post_hook(vector)
        return path


@dataclass
class Laboratory:
    """Opens the nested runs of one study."""

    study: str
    parent: str
    """Id of the parent run."""
    effort: float = 1.0
    runs: int = 0
    """Number of nested runs so far, including failed ones."""

    def scaled(self, count: int) -> int:
        """Returns a number of epochs or repetitions, multiplied by the effort; at least 1."""
        return max(1, round(count * self.effort))

    @contextmanager
    def run(self, name: str, params: dict[str, Any]) -> Iterator[tracking.RunLog]:
        """Opens a nested run; see `tracking.run`."""
        self.runs += 1
        with tracking.run(name, f"study-{self.study}", self.parent, system_metrics=False) as log:
            log.tags({"study": self.study})
            log.params(params)
            yield log

    @contextmanager
    def trial(self, name: str, recipe: Recipe) -> Iterator[Trial]:
        """Opens a nested run of a recipe, on one CPU core: these models are too small to gain from more.

        With a second thread, a step of microseconds has to wait for it, and takes ten times as long on a busy
        machine.
        """
        recipe = dataclasses.replace(recipe, device="cpu", threads=1)
        params = {"architecture": recipe.architecture, **flatten(recipe)}
        with torch_settings(recipe), self.run(name, params) as log:
            yield Trial(log, prepare(recipe))
