"""Long short-term memory: an additive cell state, through which gradients last, controlled by gates.

Source: Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", doi:10.1162/neco.1997.9.8.1735; the forget
gate is Gers, Schmidhuber & Cummins's (2000), "Learning to Forget", doi:10.1162/089976600300015015.
Deviations: two biases as in torch's fused layer; gates do not see the cell state.

Shape legend: B batch, T time, I inputs, H hidden width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.layers.recurrence import Recurrence


@dataclass(frozen=True)
class LSTMConfig:
    """Configuration of an LSTM."""

    width: int = 128
    """Hidden units per layer."""
    layers: int = 1
    """Number of layers, each of which reads the outputs of the one below."""
    dropout: float = 0.0
    """Share of outputs dropped between layers during training."""


class LSTMCell(nn.Module):
    """One explicit time step: inputs [B, I], hidden and cell state [B, H] -> the next of both states."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, 4 * width)
        self.hidden = nn.Linear(width, 4 * width)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = (self.input(x) + self.hidden(h)).chunk(4, dim=1)  # [B, 4 H] -> four [B, H]
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)  # forget, then write
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c


class LSTM(Recurrence):
    """LSTM layers: [B, T, I] -> [B, T, H]."""

    def __init__(self, config: LSTMConfig, inputs: int) -> None:
        super().__init__(
            nn.LSTM(inputs, config.width, config.layers, batch_first=True, dropout=config.dropout)
        )
        self.config = config
