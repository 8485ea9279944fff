"""Retrieval of the passages of a text that are most relevant to a question: BM25 over their common words.

Source: Robertson & Zaragoza (2009), "The Probabilistic Relevance Framework: BM25 and Beyond", Foundations
and Trends in Information Retrieval 3(4), doi:10.1561/1500000019, section 3.4, with its usual K1 and B. A
word's weight is ln(1 + x) instead of their ln(x), as in Lucene: otherwise a word that occurs in more than
half of a text's few passages would count against them. (The library bm25s gives the same scores; it is
made for an index of millions of texts, and loads scipy.)

Shape legend: P passages, Q words of a question.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

K1, B = 1.2, 0.75
LEAST, MOST = 150, 600  # characters of a passage: a heading joins what follows it; about 100 words
WORD = re.compile(r"\w+")
SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]]*\s|[。！？]")
PIECE = re.compile(rf"\S(?:.{{0,{MOST - 2}}}\S)?(?!\S)|\S{{{MOST}}}", re.DOTALL)
"""Matches as many words as fit in MOST characters, or the first MOST characters of a longer word."""

Span = tuple[int, int]
"""Index of a passage's first character in the text, and the index after its last."""


def passages(text: str) -> list[Span]:
    """Splits a text into paragraphs, with short ones joined to the next and long ones cut between sentences.

    Passages are in the order of the text, have at most MOST characters, and neither begin nor end with white
    space.
    """
    spans: list[Span] = []
    for paragraph in _paragraphs(text):
        for place, (start, end) in enumerate(_units(text, *paragraph)):
            first, last = spans[-1] if spans else (0, 0)
            joins = place > 0 or last - first < LEAST
            if spans and joins and end - first <= MOST:
                spans[-1] = (first, end)
            else:
                spans.append((start, end))
    return spans


def bm25(texts: Sequence[str], question: str) -> NDArray[np.float64]:
    """Returns the relevance of each text to a question: scores [P], at least 0."""
    asked = {word: place for place, word in enumerate(dict.fromkeys(_words(question)))}
    counts, lengths = np.zeros((len(texts), len(asked))), np.zeros(len(texts))  # [P, Q], [P]
    for passage, text in enumerate(texts):
        words = _words(text)
        lengths[passage] = len(words)
        for word in words:
            if word in asked:
                counts[passage, asked[word]] += 1
    having = (counts > 0).sum(axis=0)  # [Q]
    weights = np.log1p((len(texts) - having + 0.5) / (having + 0.5))
    relative = lengths / max(lengths.mean(), 1)
    saturated = counts / (counts + K1 * (1 - B + B * relative[:, None]))
    scores: NDArray[np.float64] = saturated @ weights
    return scores


def ranked(text: str, spans: Sequence[Span], question: str) -> list[Span]:
    """Returns the passages, most relevant first; equal scores keep the given order."""
    scores = bm25([text[start:end] for start, end in spans], question)
    return [spans[place] for place in np.argsort(-scores, kind="stable")]


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _paragraphs(text: str) -> Iterator[Span]:
    """Yields the parts of a text between blank lines."""
    start: int | None = None
    place = 0
    for line in text.splitlines(keepends=True):
        if not line.isspace():
            start = place if start is None else start
        elif start is not None:
            yield start, place
            start = None
        place += len(line)
    if start is not None:
        yield start, place


def _units(text: str, start: int, end: int) -> Iterator[Span]:
    """Yields sentences, those longer than MOST in pieces, without surrounding white space."""
    for until in (*(sentence.end() for sentence in SENTENCE_END.finditer(text, start, end)), end):
        yield from (piece.span() for piece in PIECE.finditer(text, start, until))
        start = until
