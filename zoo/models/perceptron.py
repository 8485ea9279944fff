"""The perceptron: one threshold unit, H(xᵀw + b).

Source: Rosenblatt (1958), "The Perceptron: A Probabilistic Model for Information Storage and
Organization in the Brain", doi:10.1037/h0042519. Its learning rule is in
`training/objectives/perceptron_rule.py`; Minsky & Papert (1969) showed what it cannot learn (XOR).

Deviation: the random association layer of the 1958 machine is left out, as is now usual; the inputs feed
the response unit directly.

Shape legend: B batch, F features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PerceptronConfig:
    """Empty configuration: the number of features comes from the data."""


class Perceptron(nn.Module):
    """Threshold unit: [B, F] -> excitation [B]; if it is positive, the unit fires and predicts class 1."""

    def __init__(self, config: PerceptronConfig, features: int) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(features))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias  # [B, F] @ [F] -> [B]
