"""The objective contract: what one step of training does.

The loop knows nothing of losses, an objective nothing of epochs, a model nothing of either.
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
"""What is worth looking at, by name: images uint8 [rows, columns, H, W, C], or a text."""


class Objective(ABC):
    """Loss, optimiser(s) and one training step. Subclasses are final."""

    def __init__(
        self,
        network: nn.Module,
        optimizers: tuple[torch.optim.Optimizer, ...] = (),
        schedules: tuple[LRScheduler, ...] = (),
    ) -> None:
        """`network` holds everything that is trained, in one module or several."""
        self.network = network
        self.optimizers = optimizers
        self.schedules = schedules

    @abstractmethod
    def step(self, batch: Tensors) -> Tensors:
        """Forward, backward and update; returns scalars, `loss` among them, without a host sync."""

    @abstractmethod
    def validate(self, batch: Tensors) -> Tensors:
        """Means over the batch, `loss` among them; called in evaluation mode without gradients."""

    @abstractmethod
    def export_module(self) -> nn.Module:
        """The module that becomes ONNX: raw inputs in, readable outputs out; see `exportable`."""

    def exhibits(self) -> Exhibits:
        """What is worth looking at on the way."""
        return {}

    def failure_signs(self, means: dict[str, float]) -> list[str]:
        """What goes wrong, in words, as the means of `step`'s scalars since the last logged epoch show."""
        return []

    def weights(self) -> dict[str, Tensor]:
        """A copy of all weights."""
        return {name: tensor.clone() for name, tensor in self.network.state_dict().items()}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Restores what `weights` returned."""
        self.network.load_state_dict(weights)

    def state(self) -> dict[str, Any]:
        """Everything that a later step depends on."""
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
    """A step of the one optimiser along a gradient no longer than `clip`; the loss and the gradient's norm.

    `losses` add up to the loss: what one of them keeps for its gradient is gone before the next is computed.
    `forward` is the network as Fabric set it up.
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
    """A float32 copy on the CPU in evaluation mode, followed by further modules."""
    return copy.deepcopy(nn.Sequential(network, *after) if after else network).cpu().float().eval()
