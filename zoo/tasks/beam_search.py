"""Beam search: of each of many texts the likeliest beginnings, all of them lengthened by a token a step.

Hypotheses are compared by their mean log-probability a token, so that long ones are not at a loss (Wu et al.
2016, "Google's Neural Machine Translation System", arXiv:1609.08144, section 7, with alpha 1 and no coverage
penalty). A text is done once as many of its hypotheses have ended as it has beams and none that goes on is
better, as it stands, than all of them: a sure model's first ones to end are all wrong. One beam is greedy
decoding.

Texts can be kept from saying the same again, by n-grams that no hypothesis may have twice (Paulus, Xiong &
Socher 2018, "A Deep Reinforced Model for Abstractive Summarization", arXiv:1705.04304, section 2.5).

Shape legend: A texts that are not done, K beams of each, V vocabulary, T tokens so far, C candidates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Hypothesis:
    """A text that ended, or was cut short."""

    tokens: Tokens
    """[T], without the one that ends it."""
    score: float
    """Mean log-probability of its tokens, the one that ends it included."""


class BeamSearch:
    """The search for several texts at once. It begins with one row for each, in order."""

    def __init__(self, texts: int, beams: int, end: int, longest: int, no_repeat_ngram_size: int = 0) -> None:
        """`end` is the token that ends a text; after `longest` tokens a text is cut short.

        No text has an n-gram of the given size twice; 0 lets them be.
        """
        self._beams, self._end, self._longest = beams, end, longest
        self._ngram = no_repeat_ngram_size
        self._ended: list[list[Hypothesis]] = [[] for _ in range(texts)]
        self._texts = np.arange(texts)  # [A]
        self._total = np.zeros((texts, 1))  # [A, K] log-probabilities
        self._tokens = np.zeros((texts, 1, 0), np.int64)  # [A, K, T]

    @property
    def done(self) -> bool:
        """Whether nothing is left to be lengthened."""
        return len(self._texts) == 0

    def step(self, logits: Floats) -> tuple[NDArray[np.int64], Tokens]:
        """Lengthens all rows [A K], by the logits [A K, V] of the token that follows each.

        Returns the rows that go on, by the places of those that they lengthen, and the token of each.
        """
        texts, beams, length = self._tokens.shape
        vocabulary = logits.shape[1]
        likely = log_softmax(logits)
        if self._ngram:
            likely[_repeats(self._tokens.reshape(len(logits), length), self._ngram)] = -np.inf
        total = (self._total[..., None] + likely.reshape(texts, beams, -1)).reshape(texts, -1)
        # Of each row one candidate ends: of twice as many as there are beams, enough go on.
        wanted = min(2 * self._beams, total.shape[1])
        some = np.argpartition(-total, wanted - 1, axis=1)[:, :wanted]
        ranked = np.take_along_axis(
            some, np.argsort(-np.take_along_axis(total, some, 1), axis=1, kind="stable"), 1
        )  # [A, C], the likeliest first
        values, beam, token = np.take_along_axis(total, ranked, 1), *np.divmod(ranked, vocabulary)
        ends = token == self._end
        for text, rank in np.argwhere(ends[:, : self._beams]):
            self._keep(text, self._tokens[text, beam[text, rank]], values[text, rank] / (length + 1))
        values[ends] = -np.inf  # where there are too few others, one goes on as nothing that could win
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
        """The best hypothesis of each text."""
        return [ended[0] for ended in self._ended]

    def _keep(self, place: int, tokens: Tokens, score: float) -> None:
        """Adds to the ended hypotheses of a text, of which only as many are kept as it has beams."""
        ended = self._ended[self._texts[place]]
        ended.append(Hypothesis(tokens, float(score)))
        ended.sort(key=lambda hypothesis: -hypothesis.score)
        del ended[self._beams :]

    def _may_gain(self, text: np.int64, score: float) -> bool:
        """Whether a text's best hypothesis that goes on, of that score so far, may come to be kept."""
        ended = self._ended[text]
        return len(ended) < self._beams or score > ended[-1].score


def _repeats(tokens: Tokens, size: int) -> tuple[NDArray[np.int64], Tokens]:
    """Rows of [R, T], and the tokens that would end an n-gram of that size which the row has already."""
    if tokens.shape[1] < size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ngrams = np.lib.stride_tricks.sliding_window_view(tokens, size, axis=1)  # [R, T - size + 1, size]
    begun = tokens[:, None, tokens.shape[1] - size + 1 :]  # all of the next but its end
    rows, places = np.nonzero((ngrams[..., :-1] == begun).all(axis=2))
    return rows, ngrams[rows, places, -1]


def log_softmax(logits: Floats) -> Floats:
    """[..., V] in float64."""
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=-1, keepdims=True)
    logarithms: Floats = exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True))
    return logarithms
