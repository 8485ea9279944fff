"""Loss surface of a linear regression with two weights, and its exact minimum.

With the parameters θ = (w₁, w₂, b), MSE(θ) = MSE* + ½ (θ - θ*)ᵀ H (θ - θ*), where H = 2/N XᵀX and X has a
column of ones. Gradient descent converges for rates below 2 / λ, λ the largest eigenvalue of H.

Shape legend: N examples, P parameters (3), S steps.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.pipeline import Prepared
from training.recipes.linear_regression import DIABETES
from zoo.tasks.tabular_regression import TabularRegression

Array = NDArray[np.float64]
TWO_WEIGHTS = dataclasses.replace(DIABETES, dataset="sepal-length", bar=None, log_every=1)
"""Recipe of the regression whose loss is drawn."""


@dataclass(frozen=True)
class LossSurface:
    """Mean squared error on a training split as a function of the parameters, in standardised units."""

    minimum: Array
    """Parameters θ* [P] of the minimum, by least squares."""
    hessian: Array
    """Hessian H [P, P] of the loss."""
    names: tuple[str, ...]
    """Names of the features."""

    @cached_property
    def largest_rate(self) -> float:
        """Learning rate at and above which plain gradient descent does not converge."""
        return float(2 / np.linalg.eigvalsh(self.hessian).max())

    def excess(self, parameters: Array) -> Array:
        """Returns the loss above the minimum: [..., P] -> [...]."""
        offset = parameters - self.minimum
        excess: Array = 0.5 * np.einsum("...i,ij,...j->...", offset, self.hessian, offset)
        return excess

    def excess_after(self, start: Array, rates: Array, steps: int) -> Array:
        """Returns the excess loss [rates] that theory predicts after `steps` of plain descent from θ [P]."""
        curvature, directions = np.linalg.eigh(self.hessian)
        along = directions.T @ (start - self.minimum)  # [P]
        shrink = (1 - rates[:, None] * curvature) ** (2 * steps)
        excess: Array = 0.5 * (shrink * along**2) @ curvature
        return excess

    def draw(self, axis: Any, left: float, right: float, bottom: float, top: float) -> None:
        """Draws the minimum, and contours of the excess loss over the two weights at doubling levels."""
        w1, w2 = np.meshgrid(np.linspace(left, right, 161), np.linspace(bottom, top, 161))
        grid = np.stack([w1, w2, np.full_like(w1, self.minimum[2])], axis=-1)
        levels = 0.01 * 2.0 ** np.arange(12)
        axis.contour(w1, w2, self.excess(grid), levels=levels, colors="0.75", linewidths=0.8)
        axis.plot(*self.minimum[:2], marker="*", color="black", markersize=11, zorder=5)
        axis.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        axis.set(xlabel=f"w₁ ({self.names[0]})", ylabel=f"w₂ ({self.names[1]})")
        axis.grid(False)


def surface_of(prepared: Prepared) -> LossSurface:
    """Returns the loss surface of a prepared linear regression with two features."""
    task, train = prepared.task, prepared.data.train
    assert isinstance(task, TabularRegression)
    scaled = (train["features"] - np.array(task.feature_mean)) / np.array(task.feature_std)
    target = (train["target"] - task.target_mean) / task.target_std
    design = np.column_stack([scaled, np.ones(len(target))])  # [N, P]
    minimum = np.linalg.lstsq(design, target, rcond=None)[0]
    return LossSurface(minimum, 2 / len(target) * design.T @ design, task.feature_names)
