"""Optimizers, as part of a recipe."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from training.muon import Muon, hidden_matrices
from zoo.errors import ZooError


@dataclass(frozen=True)
class Optimizer:
    """Settings of a gradient-based optimizer."""

    name: Literal["sgd", "adam", "adamw", "rmsprop", "muon"] = "adam"
    """Update rule; sgd with momentum 0 is plain gradient descent."""
    learning_rate: float = 1e-3
    """Step size; with a schedule, its peak."""
    momentum: float = 0.0
    """Momentum: share of the previous step that is kept (sgd, rmsprop and muon)."""
    nesterov: bool = False
    """Nesterov momentum: gradient at the position that the momentum leads to (sgd; Nesterov 1983)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the mean gradient and of its mean square (adam, adamw, and muon's adamw)."""
    weight_decay: float = 0.0
    """L2 penalty; in adamw and muon decoupled from the gradient (Loshchilov & Hutter 2017, arXiv:1711.05101),
    and only on matrices: biases and the scales of norms are few, and need not be small."""
    other_learning_rate: float = 3e-3
    """Learning rate of what muon leaves to adamw: vectors, embeddings and the last affine layer."""
    schedule: Literal["constant", "cosine", "inverse-square-root"] = "constant"
    """Decay of the learning rate over the run: none, half a cosine to 0 (Loshchilov & Hutter 2016,
    arXiv:1608.03983, without restarts), or the inverse square root of the step (Vaswani et al. 2017,
    arXiv:1706.03762, section 5.3)."""
    warmup: float = 0.0
    """Share of the run in which the learning rate rises to its peak (Goyal et al. 2017, arXiv:1706.02677)."""

    def build(
        self, module: nn.Module, steps: int, rates: tuple[tuple[nn.Module, float], ...] = ()
    ) -> tuple[torch.optim.Optimizer, LRScheduler]:
        """Returns the torch optimizer of the module's parameters, and its schedule for a run of `steps`.

        `rates` are parts of the module with their own peak learning rates. Raises `ZooError` if a setting
        would have no effect.
        """
        if self.momentum and self.name in ("adam", "adamw"):
            raise ZooError(f"{self.name} keeps its own moments: momentum is for sgd, rmsprop and muon")
        if self.nesterov and (self.name != "sgd" or not self.momentum):
            raise ZooError("nesterov is a kind of momentum: give sgd with a momentum above 0")
        if not 0 <= self.warmup < 1:
            raise ZooError(f"warmup is a share of the run, at least 0 and below 1, not {self.warmup}")
        own = {parameter for part, _ in rates for parameter in part.parameters()}
        groups: list[dict[str, Any]] = [
            {"params": list(part.parameters()), "lr": rate} for part, rate in rates
        ]
        if self.name == "muon":
            matrices = [p for p in hidden_matrices(module) if p not in own]
            groups.append({"params": matrices, "orthogonal": True})
            own.update(matrices)
        groups.append({"params": [p for p in module.parameters() if p not in own]})
        if self.weight_decay and self.name in ("adamw", "muon"):
            groups = [part for group in groups for part in _decayed_and_not(group)]
        optimizer = self._rule(groups)
        rise = self.warmup * steps

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / (rise + 1)
            if self.schedule == "constant":
                return 1.0
            if self.schedule == "inverse-square-root":
                return math.sqrt((rise + 1) / (step + 1))
            return (1 + math.cos(math.pi * min(step - rise, steps - rise) / (steps - rise))) / 2

        return optimizer, LambdaLR(optimizer, factor)

    def _rule(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        rate, decay, betas = self.learning_rate, self.weight_decay, self.betas
        # Fused: one call for all parameters; a call for each would cost more than its arithmetic.
        match self.name:
            case "sgd":
                return torch.optim.SGD(
                    groups,
                    rate,
                    momentum=self.momentum,
                    nesterov=self.nesterov,
                    weight_decay=decay,
                    fused=True,
                )
            case "rmsprop":
                return torch.optim.RMSprop(groups, rate, momentum=self.momentum, weight_decay=decay)
            case "adam":
                return torch.optim.Adam(groups, rate, betas, weight_decay=decay, fused=True)
            case "adamw":
                return torch.optim.AdamW(groups, rate, betas, weight_decay=decay, fused=True)
            case "muon":
                return Muon(groups, rate, self.other_learning_rate, self.momentum, betas, decay)


def _decayed_and_not(group: dict[str, Any]) -> list[dict[str, Any]]:
    """Splits a group into matrices, and vectors, which have no weight decay."""
    matrices = [parameter for parameter in group["params"] if parameter.dim() > 1]
    vectors = [parameter for parameter in group["params"] if parameter.dim() <= 1]
    parts = [{**group, "params": matrices}, {**group, "params": vectors, "weight_decay": 0.0}]
    return [part for part in parts if part["params"]]
