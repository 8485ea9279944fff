"""Linear regression: ŷ = xᵀw + b.

Source: Legendre (1805), "Nouvelles méthodes pour la détermination des orbites des comètes", which fits it
by least squares; here the weights come from gradient descent, and the closed form is what tests hold
them to.

Shape legend: B batch, F features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LinearRegressionConfig:
    """Nothing to choose: the number of features comes from the data."""


class LinearRegression(nn.Module):
    """One weight a feature and a bias, all starting at zero (the loss is convex: any start will do)."""

    def __init__(self, config: LinearRegressionConfig, features: int) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(features))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias  # [B, F] @ [F] -> [B]
