"""Long short-term memory: a cell state that is added to, so that gradients last, and gates that rule it.

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
    """What the network leaves open."""

    width: int = 128
    """Hidden units of a layer."""
    layers: int = 1
    """Layers, each reading the outputs of the one below."""
    dropout: float = 0.0
    """Share of outputs silenced between layers while training."""


class LSTMCell(nn.Module):
    """One step, written out: inputs [B, I], hidden and cell state [B, H] -> both states after it."""

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
    """[B, T, I] -> [B, T, H]."""

    def __init__(self, config: LSTMConfig, inputs: int) -> None:
        super().__init__(
            nn.LSTM(inputs, config.width, config.layers, batch_first=True, dropout=config.dropout)
        )
        self.config = config
