"""The multilayer perceptron: affine maps with a non-linearity between them.

Source: Rumelhart, Hinton & Williams (1986), "Learning representations by back-propagating errors",
doi:10.1038/323533a0. Initialisation: Glorot & Bengio (2010) for sigmoid and tanh, He et al. (2015),
arXiv:1502.01852, for ReLU. Dropout: Srivastava et al. (2014).

Shape legend: B batch, D width of the flattened input, K outputs.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}


@dataclass(frozen=True)
class MLPConfig:
    """Sizes and non-linearity of the hidden layers."""

    hidden: tuple[int, ...] = (128,)
    """Units of each hidden layer; without any, the model is linear."""
    activation: Literal["sigmoid", "relu", "tanh"] = "relu"
    """Non-linearity after each hidden layer."""
    dropout: float = 0.0
    """Share of hidden units dropped at random in each training step."""


class MLP(nn.Module):
    """Feed-forward network: [B, ...] with D numbers per example -> [B, K]."""

    def __init__(self, config: MLPConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        if min(config.hidden, default=1) < 1:
            raise ValueError(f"hidden layers have at least one unit, not {config.hidden}")
        self.config = config
        sizes = (inputs, *config.hidden)
        layers: list[nn.Module] = [nn.Flatten()]  # [B, ...] -> [B, D]
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [self._linear(fan_in, fan_out), ACTIVATIONS[config.activation]()]
            if config.dropout > 0:
                layers.append(nn.Dropout(config.dropout))
        layers.append(nn.Linear(sizes[-1], outputs))
        self.layers = nn.Sequential(*layers)

    def _linear(self, fan_in: int, fan_out: int) -> nn.Linear:
        linear = nn.Linear(fan_in, fan_out)
        if self.config.activation == "relu":
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        else:
            nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        return linear

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layers(x)
        return output
