"""Muon, an update rule for weights that are matrices: momentum, brought near an orthogonal matrix.

A gradient's few large singular values would take most of the step, and its many small ones be lost; Muon
makes all of them about 1, so that every direction is learned at the same pace. Kernels count as matrices,
one row an output channel. Vectors, and the weights next to input and output, are AdamW's.

Sources: Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks", and its iteration's
coefficients; Bernstein & Newhouse (2024), "Old Optimizer, New Norm: An Anthology", arXiv:2409.20325 (why:
steepest descent in the spectral norm); Loshchilov & Hutter (2017), arXiv:1711.05101 (AdamW, and the weight
decay of both). torch.optim.Muon is the same rule in bfloat16, for matrices alone.

Shape legend: M rows, N columns.
"""

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor, nn

ITERATION = 3.4445, -4.7750, 2.0315  # of x, x³ and x⁵: chosen to bring small values up fast, not to converge
STEPS = 3  # of the iteration: enough for convolutions, as Jordan's own CIFAR-10 training found
EPSILON = 1e-7


def orthogonalise(matrix: Tensor, steps: int = STEPS) -> Tensor:
    """[M, N] with the same singular vectors and all singular values near 1, by a Newton-Schulz iteration."""
    first, third, fifth = ITERATION
    tall = matrix.shape[0] > matrix.shape[1]
    wide: Tensor = matrix.T if tall else matrix  # of the two squares, the smaller one is then computed
    wide = wide / (wide.norm() + EPSILON)
    for _ in range(steps):
        square = wide @ wide.T
        square = torch.addmm(square, square, square, beta=third, alpha=fifth)
        wide = torch.addmm(wide, square, wide, beta=first)
    return wide.T if tall else wide


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """The matrices and kernels of a network, but for embeddings and an affine layer that comes last.

    A norm comes last where the embedding serves as output: the affine layers are all hidden then.
    """
    layers = [layer for layer in module.modules() if list(layer.parameters(recurse=False))]
    outer = {layer.weight for layer in layers if isinstance(layer, nn.Embedding)}
    outer |= {layer.weight for layer in layers[-1:] if isinstance(layer, nn.Linear)}
    return [parameter for parameter in module.parameters() if parameter.dim() > 1 and parameter not in outer]


class Muon(torch.optim.Optimizer):
    """Muon for groups that are `orthogonal`, AdamW for the others."""

    def __init__(
        self,
        groups: list[dict[str, Any]],
        rate: float,
        other_rate: float,
        momentum: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        """`rate` is of the orthogonal groups, `other_rate` of the others, where they have no `lr`."""
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
        """One update of every parameter that has a gradient."""
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
        """Nesterov's momentum, orthogonalised: entries as large for a tall matrix as for a square one."""
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
