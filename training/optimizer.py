"""The update rules, as a part of a recipe."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from zoo.errors import ZooError


@dataclass(frozen=True)
class Optimizer:
    """A gradient-based update rule."""

    name: Literal["sgd", "adam", "adamw", "rmsprop"] = "adam"
    """Update rule; sgd with momentum 0 is plain gradient descent."""
    learning_rate: float = 1e-3
    """Step size, at its peak where there is a schedule."""
    momentum: float = 0.0
    """Share of the last step that is kept (sgd and rmsprop)."""
    weight_decay: float = 0.0
    """L2 penalty; decoupled from the gradient in adamw."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate falls over the run: not at all, or along half a cosine to 0
    (Loshchilov & Hutter 2016, arXiv:1608.03983, without restarts)."""

    def build(self, module: nn.Module, steps: int) -> tuple[torch.optim.Optimizer, LRScheduler]:
        """The torch optimiser over the module's parameters, and its schedule for a run of `steps` steps.

        `ZooError` where a setting would have no effect.
        """
        if self.momentum and self.name in ("adam", "adamw"):
            raise ZooError(f"{self.name} keeps its own moments: momentum is for sgd and rmsprop")
        optimizer = self._rule(list(module.parameters()))

        def factor(step: int) -> float:
            if self.schedule == "constant":
                return 1.0
            return (1 + math.cos(math.pi * min(step, steps) / steps)) / 2

        return optimizer, LambdaLR(optimizer, factor)

    def _rule(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        rate, decay = self.learning_rate, self.weight_decay
        # Fused: one call for all parameters, where a call for each would cost more than its arithmetic.
        match self.name:
            case "sgd":
                return torch.optim.SGD(
                    parameters, rate, momentum=self.momentum, weight_decay=decay, fused=True
                )
            case "rmsprop":
                return torch.optim.RMSprop(parameters, rate, momentum=self.momentum, weight_decay=decay)
            case "adam":
                return torch.optim.Adam(parameters, rate, weight_decay=decay, fused=True)
            case "adamw":
                return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=True)
