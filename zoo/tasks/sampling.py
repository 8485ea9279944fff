"""Choice of the next token: the most likely one, or a random draw from the likely ones.

Top-k is Fan, Lewis & Dauphin's (2018), "Hierarchical Neural Story Generation", arXiv:1805.04833; top-p, or
nucleus, Holtzman et al.'s (2020), "The Curious Case of Neural Text Degeneration", arXiv:1904.09751. The
penalties are those of OpenAI's API: subtracted from the logit of a token already written, once (presence) or
for each occurrence (frequency).

Shape legend: V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

NUCLEUS = 256  # tokens that nearly always suffice; sorting a large vocabulary takes as long as a model's step


@dataclass(frozen=True)
class Sampling:
    """Parameters for drawing a token."""

    temperature: float = 1.0
    """Divisor of the logits: below 1, likely tokens become likelier; 0 takes the most likely token."""
    top_k: int = 0
    """Number of most likely tokens to draw from; 0 for all."""
    top_p: float = 1.0
    """Total probability of the tokens to draw from: the smallest set of most likely ones that reaches it."""
    presence_penalty: float = 0.0
    """Subtracted from the logits of tokens that were already written."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit once for each time that it was written."""
    bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits, by token."""

    def probabilities(self, logits: Floats) -> Floats:
        """Returns probabilities [V] for logits [V], after temperature, top-k and top-p."""
        if self.temperature == 0:
            certain: Floats = np.zeros(len(logits))
            certain[logits.argmax()] = 1
            return certain
        scaled = (logits.astype(np.float64) - logits.max()) / self.temperature
        weights: Floats = np.exp(scaled) / np.exp(scaled).sum()
        if self.top_k in range(1, len(weights)) or self.top_p < 1:
            chosen = self._likeliest(weights)
            kept: Floats = np.zeros_like(weights)
            kept[chosen] = weights[chosen] / weights[chosen].sum()
            return kept
        return weights

    def _likeliest(self, weights: Floats) -> NDArray[np.int64]:
        """Returns the tokens that may be drawn, most likely first; equally likely ones by token number."""
        most = min(self.top_k or NUCLEUS, len(weights))
        least = np.partition(weights, -most)[-most]  # ties included below
        few = np.flatnonzero(weights >= least)
        order = few[np.argsort(-weights[few], kind="stable")]
        reached = weights[order].cumsum()
        if not self.top_k and reached[-1] < self.top_p:
            order = np.argsort(-weights, kind="stable")
            reached = weights[order].cumsum()
        enough = int(np.searchsorted(reached, self.top_p)) + 1
        return order[: min(self.top_k or enough, enough)]

    def choose(
        self, logits: Floats, random: np.random.Generator, written: Mapping[int, int] | None = None
    ) -> int:
        """Returns the token chosen from logits [V], which it may modify.

        `written` has the number of times that each token was written.
        """
        if self.bias:
            logits[list(self.bias)] += np.array(list(self.bias.values()), logits.dtype)
        if written and (self.presence_penalty or self.frequency_penalty):
            tokens, counts = np.array(list(written)), np.array(list(written.values()))
            logits[tokens] -= self.presence_penalty + self.frequency_penalty * counts
        if self.temperature == 0:
            return int(logits.argmax())
        cumulative = self.probabilities(logits).cumsum()
        return int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))
