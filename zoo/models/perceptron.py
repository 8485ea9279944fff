"""The perceptron: one threshold unit, H(xᵀw + b).

Source: Rosenblatt (1958), "The Perceptron: A Probabilistic Model for Information Storage and
Organization in the Brain", doi:10.1037/h0042519. Its learning rule is in
`training/objectives/perceptron_rule.py`; Minsky & Papert (1969) showed what it cannot learn (XOR).

Deviation: the random association layer of the 1958 machine is left out, as usual since; the inputs feed
the response unit directly.

Shape legend: B batch, F features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PerceptronConfig:
    """Nothing to choose: the number of features comes from the data."""


class Perceptron(nn.Module):
    """Returns the unit's excitation; the unit fires, and the class is the second, where it is positive."""

    def __init__(self, config: PerceptronConfig, features: int) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(features))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias  # [B, F] @ [F] -> [B]
