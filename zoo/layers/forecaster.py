"""Forecasts with a recurrent network: its output after reading the past is mapped to all steps ahead.

The network reads several steps at once, as a segment, so that a long past becomes a short sequence. It reads
each variable separately with the same weights. Source: Lin et al. (2023), "SegRNN: Segment Recurrent Neural
Network for Long-Term Time Series Forecasting", arXiv:2308.11200; deviation: one affine layer gives all steps
ahead, where the paper decodes one segment at a time.

Shape legend: B batch, W window, V variables, S segment, H horizon, D width.
"""

import torch
from torch import Tensor, nn

from zoo.layers.recurrence import Recurrence


class Forecaster(nn.Module):
    """Forecaster: standardised [B, W, V] -> [B, H, V]; W is a multiple of the segment."""

    def __init__(
        self, recurrent: Recurrence, segment: int, horizon: int, relative: bool, dropout: float
    ) -> None:
        """Takes a network `recurrent` that maps [B, T, S] to [B, T, D].

        With `relative`, the network reads and forecasts differences from the last value, so that it works at
        levels that training did not contain.
        """
        super().__init__()
        self.recurrent = recurrent
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(recurrent.width, horizon)
        self.segment, self.horizon, self.relative = segment, horizon, relative

    def forward(self, history: Tensor) -> Tensor:
        level = history[:, -1:] if self.relative else torch.zeros_like(history[:, -1:])  # [B, 1, V]
        alone = (history - level).transpose(1, 2)  # [B, W, V] -> [B, V, W]
        batch, variables, _ = alone.shape
        segments = alone.reshape(batch * variables, -1, self.segment)  # [B, V, W] -> [B V, W / S, S]
        read = self.recurrent(segments)[:, -1]  # [B V, W / S, D] -> [B V, D]
        ahead = self.output(self.dropout(read)).view(batch, variables, self.horizon)
        forecast: Tensor = ahead.transpose(1, 2) + level  # [B, V, H] -> [B, H, V]
        return forecast
