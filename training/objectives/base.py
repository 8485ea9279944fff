"""Interface of objectives, which perform one step of training.

The loop does not know losses, an objective does not know epochs, and a model knows neither.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

Tensors = dict[str, Tensor]
"""A batch or split: the graph's inputs by name, and `target`."""

Exhibits = dict[str, NDArray[np.uint8] | str]
"""Samples to log during training, by name: images uint8 [rows, columns, H, W, C], or a text."""


class Objective(ABC):
    """Loss, optimiser(s) and one training step. Subclasses are final."""

    def __init__(
        self,
        network: nn.Module,
        optimizers: tuple[torch.optim.Optimizer, ...] = (),
        schedules: tuple[LRScheduler, ...] = (),
    ) -> None:
        """Takes a `network` that contains all trained modules."""
        self.network = network
        self.optimizers = optimizers
        self.schedules = schedules

    @abstractmethod
    def step(self, batch: Tensors) -> Tensors:
        """Performs forward, backward and update; returns scalars, including `loss`, without a host sync."""

    @abstractmethod
    def validate(self, batch: Tensors) -> Tensors:
        """Returns means over the batch, including `loss`; called in evaluation mode without gradients."""

    @abstractmethod
    def export_module(self) -> nn.Module:
        """Returns the module to export as ONNX, from raw inputs to readable outputs; see `exportable`."""

    def exhibits(self) -> Exhibits:
        """Returns samples to log during training."""
        return {}

    def failure_signs(self, means: dict[str, float]) -> list[str]:
        """Returns problems, as texts, seen in the means of `step`'s scalars since the last logged epoch."""
        return []

    def weights(self) -> dict[str, Tensor]:
        """Returns a copy of all weights."""
        return {name: tensor.clone() for name, tensor in self.network.state_dict().items()}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Restores what `weights` returned."""
        self.network.load_state_dict(weights)

    def state(self) -> dict[str, Any]:
        """Returns everything that later steps depend on, for a checkpoint."""
        return {
            "weights": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedules": [schedule.state_dict() for schedule in self.schedules],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned."""
        self.load_weights(state["weights"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)


def clipped_update(
    objective: Objective, fabric: Fabric, forward: nn.Module, losses: Iterable[Tensor], clip: float
) -> Tensors:
    """Makes a step of the only optimiser with the gradient clipped to norm `clip`; returns loss and norm.

    The loss is the sum of `losses`; each one's graph is freed before the next one is computed. `forward` is
    the network as set up by Fabric.
    """
    (optimizer,), (schedule,) = objective.optimizers, objective.schedules
    optimizer.zero_grad()
    parts = []
    for loss in losses:
        fabric.backward(loss)
        parts.append(loss.detach())
    norm = fabric.clip_gradients(forward, optimizer, max_norm=clip)
    assert isinstance(norm, Tensor)
    optimizer.step()
    schedule.step()
    return {"loss": torch.stack(parts).sum(), "gradient_norm": norm.detach()}


def exportable(network: nn.Module, *after: nn.Module) -> nn.Module:
    """Returns a float32 copy on the CPU in evaluation mode, followed by the modules `after`."""
    return copy.deepcopy(nn.Sequential(network, *after) if after else network).cpu().float().eval()
