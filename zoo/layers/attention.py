"""Attention: each position of a sequence queries all positions of the same or another sequence.

Source: Vaswani et al. (2017), "Attention Is All You Need", arXiv:1706.03762, sections 3.2 and 3.5.
Deviations: projections have biases, as in torch's own layer; dropout may apply to attention weights, as in
`transformer_base_v2` of the authors' tensor2tensor; the output is zero at a position with all keys masked.

Shape legend: B batch, H heads, T query positions, S key positions, P positions before the first of T,
D width, K width of a head (D / H).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

LONGEST_WAVE = 10_000  # the paper's, in units of 2 π positions


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Queries [B, H, T, K], keys and values [B, H, S, K] -> outputs [B, H, T, K] and weights [B, H, T, S].

    `hidden` masks the positions where it is True; it is broadcast to [B, H, T, S]. The weights of a row sum
    to 1, or are all 0 if all its positions are masked. `dropout` is the share of weights that are dropped.
    """
    # Sums of K independent terms have variance K; softmax of scores that large would pick a single one.
    scores = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3])  # [B, H, T, S]
    if hidden is None:
        weights = scores.softmax(dim=3)
    else:
        # Not minus infinity, which would make a fully masked row NaN; such rows are set to zero afterwards.
        lowest = torch.finfo(scores.dtype).min
        weights = scores.masked_fill(hidden, lowest).softmax(dim=3).masked_fill(hidden, 0)
    return functional.dropout(weights, dropout, training=dropout > 0) @ values, weights


def hidden_future(places: int, past: int, device: torch.device) -> Tensor:
    """Returns the causal mask of T positions after P past ones: bool [T, P + T], True for later keys."""
    asked = torch.arange(past + places, device=device)
    return asked > asked[past:, None]


def sinusoidal_positions(places: int, past: int, width: int, device: torch.device) -> Tensor:
    """Returns float32 [T, D] for T positions after P past ones: sines and cosines of D / 2 wavelengths.

    They are not learned, so they exist for any length.
    """
    # Computed here, not in the exported graph: large angles would magnify the rounding errors of its runtime.
    frequencies = torch.tensor(
        [LONGEST_WAVE ** (-wave / width) for wave in range(0, width, 2)], device=device
    )
    angles = torch.arange(past, past + places, device=device)[:, None] * frequencies  # [T, D / 2]
    waves = torch.stack([angles.sin(), angles.cos()], dim=2)  # [T, D / 2, 2]
    return waves.flatten(1)[:, :width]  # the last wave of an odd width has no cosine


class MultiHeadAttention(nn.Module):
    """Multi-head attention: [B, T, D], keys and values [B, H, S, K] -> [B, T, D] and weights [B, H, T, S].

    `project` computes keys and values of the same or another sequence, so that a caller can cache them.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        """Takes the share of attention weights dropped in training; `ValueError` if `heads` do not fit."""
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be divided among {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def project(self, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Projects [B, S, D] to keys and values, each [B, H, S, K]."""
        return self._split(self.key(asked)), self._split(self.value(asked))

    def forward(
        self, asking: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns outputs and weights; `hidden` as in `attend`."""
        queries = self._split(self.query(asking))
        dropout = self.dropout if self.training else 0.0
        mixed, weights = attend(queries, keys, values, hidden, dropout)
        answer = self.output(mixed.transpose(1, 2).flatten(2))  # [B, H, T, K] -> [B, T, D]
        return answer, weights

    def _split(self, sequence: Tensor) -> Tensor:
        batch, places, _ = sequence.shape
        return sequence.view(batch, places, self.heads, -1).transpose(1, 2)  # [B, T, D] -> [B, H, T, K]
