"""The gated recurrent unit: like an LSTM, but with one state and two gates.

Source: Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
Machine Translation", arXiv:1406.1078. Deviations, as in torch's fused layer: the reset gate scales the
product of the hidden state and its weights, not the hidden state itself, so that one matrix product is
enough; and there are two biases.

Shape legend: B batch, T time, I inputs, H hidden width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.layers.recurrence import Recurrence


@dataclass(frozen=True)
class GRUConfig:
    """Configuration of a GRU."""

    width: int = 128
    """Hidden units per layer."""
    layers: int = 1
    """Number of layers, each of which reads the outputs of the one below."""
    dropout: float = 0.0
    """Share of outputs dropped between layers during training."""


class GRUCell(nn.Module):
    """One explicit time step: inputs [B, I] and hidden state [B, H] -> the next hidden state [B, H]."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, 3 * width)
        self.hidden = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        of_input, of_hidden = self.input(x).chunk(3, dim=1), self.hidden(h).chunk(3, dim=1)
        r = torch.sigmoid(of_input[0] + of_hidden[0])  # reset: how much of the past the candidate sees
        z = torch.sigmoid(of_input[1] + of_hidden[1])  # update: how much of the past stays
        n = torch.tanh(of_input[2] + r * of_hidden[2])
        return (1 - z) * n + z * h


class GRU(Recurrence):
    """GRU layers: [B, T, I] -> [B, T, H]."""

    def __init__(self, config: GRUConfig, inputs: int) -> None:
        super().__init__(
            nn.GRU(inputs, config.width, config.layers, batch_first=True, dropout=config.dropout)
        )
        self.config = config
