"""Retrieval: how a text is split into passages, and which of them a question is about."""

import itertools
import math
import time

import numpy as np
import pytest

from zoo.tasks.retrieval import K1, LEAST, MOST, B, bm25, passages, ranked

WORDS = "some words that fill a line of a paragraph without saying anything in particular, and go on. "
PARAGRAPH = (WORDS * 4).strip()
LONG = " ".join(f"Sentence {i} says what the {i}th sentence of a long paragraph says." for i in range(60))


def texts(text: str) -> list[str]:
    return [text[start:end] for start, end in passages(text)]


@pytest.mark.parametrize(
    "text",
    [
        PARAGRAPH,
        f"{PARAGRAPH}\n\n{PARAGRAPH}\n \t\n\n{PARAGRAPH}\n",
        f"\r\n\r\n{PARAGRAPH}\r\n\r\n{PARAGRAPH}",
        LONG,
        "x" * 5000,
        f"{'x' * 700} {'y' * 700}",
        "日本語の文。" * 500,
        "a.b!c?" * 1000,
        "  \u2028 one\x0ctwo  ",
        "no end\n" * 500,
        '"Where?" she asked. (Nobody knew.) "There…" ' * 50,
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_passages_are_the_text_in_order(text: str) -> None:
    spans = passages(text)
    assert spans == sorted(spans)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert all(0 < len(passage) <= MOST for passage in texts(text))
    assert all(passage == passage.strip() for passage in texts(text))
    assert "".join("".join(texts(text)).split()) == "".join(text.split()), "nothing is lost but white space"


def test_a_paragraph_is_a_passage() -> None:
    assert texts(f"{PARAGRAPH}\n\n{PARAGRAPH}.\n\n\n{PARAGRAPH}..") == [
        PARAGRAPH,
        f"{PARAGRAPH}.",
        f"{PARAGRAPH}..",
    ]


def test_a_heading_goes_with_what_follows() -> None:
    text = f"1. Beginnings\n\n{PARAGRAPH}\n\n2. Ends\n\n{PARAGRAPH}"
    assert texts(text) == [f"1. Beginnings\n\n{PARAGRAPH}", f"2. Ends\n\n{PARAGRAPH}"]


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    found = texts(LONG)
    assert len(found) > 5
    assert all(passage.startswith("Sentence") and passage.endswith("says.") for passage in found)
    assert all(len(passage) >= LEAST for passage in found[:-1])


def test_a_long_sentence_is_cut_between_words() -> None:
    found = texts("word " * 1000)
    assert all(set(passage.split()) == {"word"} for passage in found)
    assert all(len(passage) == MOST - 1 for passage in found[:-1]), "119 words and their spaces, and one more"


@pytest.mark.parametrize("text", ["", " ", "\n\n \t\r\n", "\u2028"], ids=ascii)
def test_nothing_to_read(text: str) -> None:
    assert passages(text) == []


@pytest.mark.parametrize("unit", [".", '."', "\n", " ", "a", "\x0b \x85", "a\n\n", "a. "], ids=ascii)
def test_odd_texts_take_no_longer(unit: str) -> None:
    """Seconds where a pattern looked back over what it has seen, milliseconds as it is."""
    begun = time.process_time()
    text = unit * (200_000 // len(unit))
    spans = passages(text)
    if spans:
        bm25([text[start:end] for start, end in spans], "a")
    assert time.process_time() - begun < 3


# BM25


def by_hand(texts: list[list[str]], question: list[str], place: int) -> float:
    """The formula, a word at a time."""
    words = texts[place]
    mean = sum(map(len, texts)) / len(texts)
    score = 0.0
    for word in set(question):
        having = sum(word in other for other in texts)
        weight = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        times = words.count(word)
        score += weight * times / (times + K1 * (1 - B + B * len(words) / mean))
    return score


def test_bm25_is_the_formula() -> None:
    words = ["one", "two", "three", "four", "five"]
    random = np.random.default_rng(0)
    drawn = [[str(w) for w in random.choice(words, random.integers(1, 12))] for _ in range(9)]
    question = ["two", "five", "five", "six"]
    expected = [by_hand(drawn, question, place) for place in range(9)]
    scores = bm25([" ".join(one) for one in drawn], " ".join(question))
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_what_counts() -> None:
    same = "the cat sat on the mat"
    rare, common, none, twice, longer = bm25(
        ["the zebra", "the", "it", "zebra the zebra the", "the zebra and much else that says nothing of it"],
        "The ZEBRA?",
    )
    assert none == 0 < common < longer < rare < twice
    assert np.ptp(bm25([same, same], "cat")) == 0
    assert (bm25([same, same], "cat") > 0).all(), "a word that all have still counts for them"
    assert bm25(["Straße", "Gasse"], "STRASSE").argmax() == 0


def test_texts_and_questions_without_words() -> None:
    np.testing.assert_array_equal(bm25(["...", "one"], "?!"), [0, 0])
    np.testing.assert_array_equal(bm25(["...", "!"], "what"), [0, 0])


def test_ranked() -> None:
    text = "\n\n".join(f"{PARAGRAPH} {word}" for word in ("alpha", "beta", "gamma"))
    spans = passages(text)
    assert ranked(text, spans, "Where is gamma?") == [spans[2], spans[0], spans[1]]
    assert ranked(text, spans, "Nothing like it") == spans, "of equals the first"
