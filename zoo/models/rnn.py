"""The simple recurrent network: a layer that reads a sequence step by step, with its last output as input.

Source: Elman (1990), "Finding Structure in Time", doi:10.1207/s15516709cog1402_1. Deviations: tanh instead
of the logistic function, two biases as in torch's fused layer, any number of layers; trained through the
whole sequence (back-propagation through time), where the paper went one step back.

Shape legend: B batch, T time, I inputs, H hidden width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.layers.recurrence import Recurrence


@dataclass(frozen=True)
class RNNConfig:
    """Configuration of an RNN."""

    width: int = 128
    """Hidden units per layer."""
    layers: int = 1
    """Number of layers, each of which reads the outputs of the one below."""
    dropout: float = 0.0
    """Share of outputs dropped between layers during training."""


class RNNCell(nn.Module):
    """One explicit time step: inputs [B, I] and hidden state [B, H] -> the next hidden state [B, H]."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, width)
        self.hidden = nn.Linear(width, width)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.input(x) + self.hidden(h))


class RNN(Recurrence):
    """RNN layers: [B, T, I] -> [B, T, H]."""

    def __init__(self, config: RNNConfig, inputs: int) -> None:
        super().__init__(
            nn.RNN(inputs, config.width, config.layers, batch_first=True, dropout=config.dropout)
        )
        self.config = config
