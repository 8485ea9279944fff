"""Muon, an optimizer for weight matrices: the momentum is replaced by a nearly orthogonal matrix.

The few large singular values of a gradient would dominate the step, and the many small ones would be lost;
Muon makes all of them about 1, so that every direction is learned at the same pace. Kernels are treated as
matrices with one row per output channel. AdamW updates vectors, and the weights next to input and output.

Sources: Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks", also for the
coefficients of the iteration; Bernstein & Newhouse (2024), "Old Optimizer, New Norm: An Anthology",
arXiv:2409.20325 (why: steepest descent in the spectral norm); Loshchilov & Hutter (2017), arXiv:1711.05101
(AdamW, and the weight decay of both). torch.optim.Muon is the same rule in bfloat16, and only for matrices.

Shape legend: M rows, N columns.
"""

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor, nn

ITERATION = 3.4445, -4.7750, 2.0315  # of x, x³, x⁵: chosen to raise small values fast, not to converge
STEPS = 3  # of the iteration: enough for convolutions, as in Jordan's CIFAR-10 training
EPSILON = 1e-7


def orthogonalise(matrix: Tensor, steps: int = STEPS) -> Tensor:
    """Brings singular values of a matrix [M, N] near 1 by Newton-Schulz iteration; keeps singular vectors."""
    first, third, fifth = ITERATION
    tall = matrix.shape[0] > matrix.shape[1]
    wide: Tensor = matrix.T if tall else matrix  # so that the smaller of the two squares is computed
    wide = wide / (wide.norm() + EPSILON)
    for _ in range(steps):
        square = wide @ wide.T
        square = torch.addmm(square, square, square, beta=third, alpha=fifth)
        wide = torch.addmm(wide, square, wide, beta=first)
    return wide.T if tall else wide


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """Returns the matrices and kernels of a network, except embeddings and an affine layer at the end.

    If the embedding is also the output layer, the last layer is a norm, and all affine layers are hidden.
    """
    layers = [layer for layer in module.modules() if list(layer.parameters(recurse=False))]
    outer = {layer.weight for layer in layers if isinstance(layer, nn.Embedding)}
    outer |= {layer.weight for layer in layers[-1:] if isinstance(layer, nn.Linear)}
    return [parameter for parameter in module.parameters() if parameter.dim() > 1 and parameter not in outer]


class Muon(torch.optim.Optimizer):
    """Optimizer that applies Muon to parameter groups that are `orthogonal`, and AdamW to the others."""

    def __init__(
        self,
        groups: list[dict[str, Any]],
        rate: float,
        other_rate: float,
        momentum: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        """`rate` is the default `lr` of the orthogonal groups, `other_rate` that of the others."""
        for group in groups:
            group.setdefault("orthogonal", False)
            group.setdefault("lr", rate if group["orthogonal"] else other_rate)
        shared = {"momentum": momentum, "betas": betas, "weight_decay": weight_decay}
        super().__init__(groups, shared)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Updates every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._muon if group["orthogonal"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(group["lr"] * update(parameter, group))
        return loss

    def _muon(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Returns Nesterov's momentum, orthogonalised, and scaled up if the matrix is tall."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["mean"] = torch.zeros_like(parameter)
        state["mean"].lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(state["mean"], group["momentum"])
        rows = ahead.flatten(1)  # [M, ...] -> [M, N]
        size: float = max(1.0, rows.shape[0] / rows.shape[1]) ** 0.5
        return size * orthogonalise(rows).reshape(parameter.shape)

    def _adam(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state |= {"steps": 0, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}
        first, second = group["betas"]
        state["steps"] += 1
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        mean = state["mean"] / (1 - first ** state["steps"])
        square = state["square"] / (1 - second ** state["steps"])
        update: Tensor = mean / (square.sqrt() + 1e-8)
        return update
