"""Beam search for many texts at once: each step extends the most likely beginnings of each text by a token.

Hypotheses are ranked by mean log-probability per token, so that long ones have no disadvantage (Wu et al.
2016, "Google's Neural Machine Translation System", arXiv:1609.08144, section 7, with alpha 1 and no coverage
penalty). A text is done once it has as many ended hypotheses as beams, and no active hypothesis scores better
than the worst of them: if the model is confident, the first hypotheses to end are all wrong. One beam is
greedy decoding.

Repetition can be prevented by n-grams that no hypothesis may contain twice (Paulus, Xiong & Socher 2018, "A
Deep Reinforced Model for Abstractive Summarization", arXiv:1705.04304, section 2.5).

Shape legend: A active texts, K beams of each, V vocabulary, T tokens so far, C candidates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Hypothesis:
    """A text that has ended or was cut short."""

    tokens: Tokens
    """Tokens [T], without the one that ends the text."""
    score: float
    """Mean log-probability of the tokens, including the one that ends the text."""


class BeamSearch:
    """Beam search for several texts at once. It begins with one row for each text, in order."""

    def __init__(self, texts: int, beams: int, end: int, longest: int, no_repeat_ngram_size: int = 0) -> None:
        """Starts the search; `end` is the token that ends a text, and `longest` the maximum number of tokens.

        No hypothesis contains an n-gram of `no_repeat_ngram_size` tokens twice; 0 allows repetition.
        """
        self._beams, self._end, self._longest = beams, end, longest
        self._ngram = no_repeat_ngram_size
        self._ended: list[list[Hypothesis]] = [[] for _ in range(texts)]
        self._texts = np.arange(texts)  # [A]
        self._total = np.zeros((texts, 1))  # [A, K] log-probabilities
        self._tokens = np.zeros((texts, 1, 0), np.int64)  # [A, K, T]

    @property
    def done(self) -> bool:
        """True if no text is active any more."""
        return len(self._texts) == 0

    def step(self, logits: Floats) -> tuple[NDArray[np.int64], Tokens]:
        """Extends all rows [A K] by a token, given the logits [A K, V] of each row's next token.

        Returns, for each row of the next step, the index of the row that it extends and the token it adds.
        """
        texts, beams, length = self._tokens.shape
        vocabulary = logits.shape[1]
        likely = log_softmax(logits)
        if self._ngram:
            likely[_repeats(self._tokens.reshape(len(logits), length), self._ngram)] = -np.inf
        total = (self._total[..., None] + likely.reshape(texts, beams, -1)).reshape(texts, -1)
        # Each row has one candidate that ends a text, so at least K of 2 K candidates continue.
        wanted = min(2 * self._beams, total.shape[1])
        some = np.argpartition(-total, wanted - 1, axis=1)[:, :wanted]
        ranked = np.take_along_axis(
            some, np.argsort(-np.take_along_axis(total, some, 1), axis=1, kind="stable"), 1
        )  # [A, C], the most likely first
        values, beam, token = np.take_along_axis(total, ranked, 1), *np.divmod(ranked, vocabulary)
        ends = token == self._end
        for text, rank in np.argwhere(ends[:, : self._beams]):
            self._keep(text, self._tokens[text, beam[text, rank]], values[text, rank] / (length + 1))
        values[ends] = -np.inf  # an ended one continues only if too few others are left; it cannot win
        going_on = np.argsort(ends, axis=1, kind="stable")[:, : self._beams]
        self._total, beam, token = (np.take_along_axis(a, going_on, 1) for a in (values, beam, token))
        before = np.take_along_axis(self._tokens, beam[..., None], 1)
        self._tokens = np.concatenate([before, token[..., None]], axis=2)
        if length + 1 == self._longest:
            for text, k in np.ndindex(token.shape):
                self._keep(text, self._tokens[text, k], self._total[text, k] / self._longest)
            left = np.zeros(texts, bool)
        else:
            scores = (self._total[:, 0] / (length + 1)).tolist()
            left = np.array([self._may_gain(*pair) for pair in zip(self._texts, scores, strict=True)], bool)
        rows = (np.arange(texts)[:, None] * beams + beam)[left]
        self._texts, self._total, self._tokens = self._texts[left], self._total[left], self._tokens[left]
        return rows.reshape(-1), token[left].reshape(-1)

    def best(self) -> list[Hypothesis]:
        """Returns the best hypothesis of each text."""
        return [ended[0] for ended in self._ended]

    def _keep(self, place: int, tokens: Tokens, score: float) -> None:
        """Adds an ended hypothesis to those of a text, and keeps the best, as many as there are beams."""
        ended = self._ended[self._texts[place]]
        ended.append(Hypothesis(tokens, float(score)))
        ended.sort(key=lambda hypothesis: -hypothesis.score)
        del ended[self._beams :]

    def _may_gain(self, text: np.int64, score: float) -> bool:
        """Returns True if a text's best active hypothesis, which has this score so far, may still be kept."""
        ended = self._ended[text]
        return len(ended) < self._beams or score > ended[-1].score


def _repeats(tokens: Tokens, size: int) -> tuple[NDArray[np.int64], Tokens]:
    """Returns rows of [R, T] and, for each, a token that would complete an n-gram the row already has."""
    if tokens.shape[1] < size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ngrams = np.lib.stride_tricks.sliding_window_view(tokens, size, axis=1)  # [R, T - size + 1, size]
    begun = tokens[:, None, tokens.shape[1] - size + 1 :]  # the next n-gram without its last token
    rows, places = np.nonzero((ngrams[..., :-1] == begun).all(axis=2))
    return rows, ngrams[rows, places, -1]


def log_softmax(logits: Floats) -> Floats:
    """Returns log-probabilities [..., V] in float64."""
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=-1, keepdims=True)
    logarithms: Floats = exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True))
    return logarithms
