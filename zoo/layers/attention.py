"""Attention: each place of a sequence asks all places of one for what it needs.

Source: Vaswani et al. (2017), "Attention Is All You Need", arXiv:1706.03762, sections 3.2 and 3.5.
Deviations: projections have biases, as in torch's own layer; dropout may silence attention weights, as
`transformer_base_v2` of the authors' tensor2tensor does; a place that may see nothing mixes nothing.

Shape legend: B batch, H heads, T places that ask, S places that are asked, P places before the first of T,
D width, K width of a head (D / H).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

LONGEST_WAVE = 10_000  # the paper's, in units of 2 π places


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """[B, H, T, K] and twice [B, H, S, K] -> mixed values [B, H, T, K] and their weights [B, H, T, S].

    `hidden` is true where a place must not be seen, broadcast to [B, H, T, S]. Weights of a row sum to 1, or
    are all 0 where everything is hidden. `dropout` is the share of weights that the mixture leaves out.
    """
    # Products of K independent terms have variance K; softmax of numbers that large would pick a single one.
    scores = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3])  # [B, H, T, S]
    if hidden is None:
        weights = scores.softmax(dim=3)
    else:
        # Minus infinity would make a row without anything else NaN; it is for such rows that zeros follow.
        lowest = torch.finfo(scores.dtype).min
        weights = scores.masked_fill(hidden, lowest).softmax(dim=3).masked_fill(hidden, 0)
    return functional.dropout(weights, dropout, training=dropout > 0) @ values, weights


def hidden_future(places: int, past: int, device: torch.device) -> Tensor:
    """The causal mask of T places after P past ones: bool [T, P + T], true where one asked comes later."""
    asked = torch.arange(past + places, device=device)
    return asked > asked[past:, None]


def sinusoidal_positions(places: int, past: int, width: int, device: torch.device) -> Tensor:
    """Of T places after P past ones: float32 [T, D], a sine and a cosine of each of D / 2 wavelengths.

    Nothing is learned, so any length has them.
    """
    # Numbers, not operators of a graph: angles of far places would multiply the rounding of its runtime.
    frequencies = torch.tensor(
        [LONGEST_WAVE ** (-wave / width) for wave in range(0, width, 2)], device=device
    )
    angles = torch.arange(past, past + places, device=device)[:, None] * frequencies  # [T, D / 2]
    waves = torch.stack([angles.sin(), angles.cos()], dim=2)  # [T, D / 2, 2]
    return waves.flatten(1)[:, :width]  # the last wave of an odd width has no cosine


class MultiHeadAttention(nn.Module):
    """Queries from [B, T, D], given keys and values [B, H, S, K] -> [B, T, D] and weights [B, H, T, S].

    Keys and values come from `project`, of the same sequence or another; those of places before can be kept.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        """`dropout` is the share of weights silenced while training; `ValueError` where heads do not fit."""
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be divided among {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def project(self, asked: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S, D] -> keys and values, each [B, H, S, K]."""
        return self._split(self.key(asked)), self._split(self.value(asked))

    def forward(
        self, asking: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """`hidden` as in `attend`."""
        queries = self._split(self.query(asking))
        dropout = self.dropout if self.training else 0.0
        mixed, weights = attend(queries, keys, values, hidden, dropout)
        answer = self.output(mixed.transpose(1, 2).flatten(2))  # [B, H, T, K] -> [B, T, D]
        return answer, weights

    def _split(self, sequence: Tensor) -> Tensor:
        batch, places, _ = sequence.shape
        return sequence.view(batch, places, self.heads, -1).transpose(1, 2)  # [B, T, D] -> [B, H, T, K]
