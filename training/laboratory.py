"""Where a study does its runs: nested under one parent, with what several studies measure in them."""

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
        """Trains, logging every point."""

        def observe(progress: Progress, points: Points) -> None:
            self.log.points(points)
            if watch is not None:
                watch(progress, points)

        return train_prepared(self.prepared, observe)

    def measure(self, split: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """The objective's validation metrics on a split, dropout off."""
        prepared = self.prepared
        return validate(prepared.objective, to_tensors(dict(split), prepared.fabric))

    def parameters_by_step(self) -> list[NDArray[np.float64]]:
        """A list that holds all parameters as one vector now, and grows by one with every step."""
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
    """Run id."""
    effort: float = 1.0
    runs: int = 0
    """Nested runs so far, failed ones included."""

    def scaled(self, count: int) -> int:
        """A number of epochs or repetitions, scaled by the effort; at least 1."""
        return max(1, round(count * self.effort))

    @contextmanager
    def run(self, name: str, params: dict[str, Any]) -> Iterator[tracking.RunLog]:
        """A nested run; see `tracking.run`."""
        self.runs += 1
        with tracking.run(name, f"study-{self.study}", self.parent, system_metrics=False) as log:
            log.tags({"study": self.study})
            log.params(params)
            yield log

    @contextmanager
    def trial(self, name: str, recipe: Recipe) -> Iterator[Trial]:
        """A nested run of a recipe, on one CPU core: these models are too small to gain from anything else.

        With a second thread, a step of microseconds waits for it: ten times as long on a busy machine.
        """
        recipe = dataclasses.replace(recipe, device="cpu", threads=1)
        params = {"architecture": recipe.architecture, **flatten(recipe)}
        with torch_settings(recipe), self.run(name, params) as log:
            yield Trial(log, prepare(recipe))
