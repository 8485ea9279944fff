"""Linear regression: ŷ = xᵀw + b.

Source: Legendre (1805), "Nouvelles méthodes pour la détermination des orbites des comètes", which fits it
by least squares. Here the weights come from gradient descent, and tests compare them with the closed form.

Shape legend: B batch, F features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LinearRegressionConfig:
    """Empty configuration: the number of features comes from the data."""


class LinearRegression(nn.Module):
    """One weight per feature and a bias, all initially zero (the loss is convex, so any start works)."""

    def __init__(self, config: LinearRegressionConfig, features: int) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(features))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias  # [B, F] @ [F] -> [B]
