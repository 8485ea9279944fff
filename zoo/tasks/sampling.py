"""Choosing the next token: the likeliest one, or one drawn at random from those that are likely.

Top-k is Fan, Lewis & Dauphin's (2018), "Hierarchical Neural Story Generation", arXiv:1805.04833; top-p, or
nucleus, Holtzman et al.'s (2020), "The Curious Case of Neural Text Degeneration", arXiv:1904.09751.

Shape legend: V vocabulary.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn."""

    temperature: float = 1.0
    """Divides the logits: below 1 what is likely becomes likelier; 0 takes the likeliest token."""
    top_k: int = 0
    """Tokens to choose from, the likeliest ones; 0 for all."""
    top_p: float = 1.0
    """Probability that the tokens to choose from have together: the fewest and likeliest that reach it."""

    def probabilities(self, logits: Floats) -> Floats:
        """[V] of logits [V]: what is left of the softmax."""
        if self.temperature == 0:
            certain: Floats = np.zeros(len(logits))
            certain[logits.argmax()] = 1
            return certain
        scaled = (logits.astype(np.float64) - logits.max()) / self.temperature
        weights: Floats = np.exp(scaled) / np.exp(scaled).sum()
        if self.top_k in range(1, len(weights)) or self.top_p < 1:
            order = np.argsort(-weights, kind="stable")
            kept = self.top_k or len(order)
            enough = int(np.searchsorted(weights[order].cumsum(), self.top_p)) + 1
            weights[order[min(kept, enough) :]] = 0
            weights = weights / weights.sum()
        return weights

    def choose(self, logits: Floats, random: np.random.Generator) -> int:
        """A token's number."""
        if self.temperature == 0:
            return int(logits.argmax())
        cumulative = self.probabilities(logits).cumsum()
        return int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))
