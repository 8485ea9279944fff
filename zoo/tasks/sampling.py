"""Choosing the next token: the likeliest one, or one drawn at random from those that are likely.

Top-k is Fan, Lewis & Dauphin's (2018), "Hierarchical Neural Story Generation", arXiv:1805.04833; top-p, or
nucleus, Holtzman et al.'s (2020), "The Curious Case of Neural Text Degeneration", arXiv:1904.09751; the
penalties of what was written already are those of OpenAI's API, subtracted from its logit once or each time.

Shape legend: V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

NUCLEUS = (
    256  # tokens that are enough nearly always; to sort a large vocabulary takes as long as a model's step
)


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn."""

    temperature: float = 1.0
    """Divides the logits: below 1 what is likely becomes likelier; 0 takes the likeliest token."""
    top_k: int = 0
    """Tokens to choose from, the likeliest ones; 0 for all."""
    top_p: float = 1.0
    """Probability that the tokens to choose from have together: the fewest and likeliest that reach it."""
    presence_penalty: float = 0.0
    """Subtracted from the logits of tokens that were written already."""
    frequency_penalty: float = 0.0
    """Subtracted as often as the token was written."""
    bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of tokens."""

    def probabilities(self, logits: Floats) -> Floats:
        """[V] of logits [V]: what is left of the softmax."""
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
        """Of those that may be drawn, in descending order; of equals the first."""
        most = min(self.top_k or NUCLEUS, len(weights))
        least = np.partition(weights, -most)[-most]  # and its equals
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
        """A token's number, of logits [V], which are changed; `written` says how often each token was."""
        if self.bias:
            logits[list(self.bias)] += np.array(list(self.bias.values()), logits.dtype)
        if written and (self.presence_penalty or self.frequency_penalty):
            tokens, counts = np.array(list(written)), np.array(list(written.values()))
            logits[tokens] -= self.presence_penalty + self.frequency_penalty * counts
        if self.temperature == 0:
            return int(logits.argmax())
        cumulative = self.probabilities(logits).cumsum()
        return int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))
