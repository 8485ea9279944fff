"""The gated recurrent unit: an LSTM's idea with one state and two gates.

Source: Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
Machine Translation", arXiv:1406.1078. Deviation, as in torch's fused layer: the reset gate scales what the
hidden state contributes, not the hidden state itself (so that all is one matrix product); and two biases.

Shape legend: B batch, T time, I inputs, H hidden width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.layers.recurrence import Recurrence


@dataclass(frozen=True)
class GRUConfig:
    """What the network leaves open."""

    width: int = 128
    """Hidden units of a layer."""
    layers: int = 1
    """Layers, each reading the outputs of the one below."""
    dropout: float = 0.0
    """Share of outputs silenced between layers while training."""


class GRUCell(nn.Module):
    """One step, written out: inputs [B, I] and hidden state [B, H] -> the next hidden state [B, H]."""

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
    """[B, T, I] -> [B, T, H]."""

    def __init__(self, config: GRUConfig, inputs: int) -> None:
        super().__init__(
            nn.GRU(inputs, config.width, config.layers, batch_first=True, dropout=config.dropout)
        )
        self.config = config
