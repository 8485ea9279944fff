"""Whole numbers below a million in words: what its data sets share. Made here, with num2words.

Nothing about them is ambiguous, so a model's answers are right or wrong: the metric is exact. Words are as
num2words has them, which now and then is not what people write: "einhunderteinstausend".
"""

import random
from collections.abc import Iterable
from importlib.metadata import version

from training.datasets.array_cache import cached, identity
from training.datasets.base import Data
from training.datasets.pairs import KIND, Pair, pair_arrays
from zoo.tasks import Arrays, Schema

SIZE = "13,000 numbers in words"
LICENCE = "none needed"
SOURCE = "made here, seed 0, with num2words"
LARGEST = 999_999
SMALL = 1000  # all numbers below are for training: the parts that larger ones are made of
LARGE, TEST = 12_000, 1000  # random numbers from there on, and how many of them are for testing


def load_numbers(name: str, language: str) -> Data:
    """12,000 training and 1,000 test pairs, English to `language`, no number in both."""
    drawn = random.Random(0).sample(range(SMALL, LARGEST + 1), LARGE)
    train, test = _pairs([*range(SMALL), *drawn[TEST:]], language), _pairs(drawn[:TEST], language)
    return Data(name, KIND, Schema(metric="exact"), SOURCE, train, test)


def _pairs(numbers: list[int], language: str) -> Arrays:
    """The split of these numbers, made once: a number takes a third of a millisecond."""
    key = identity([version("num2words"), *map(str, numbers)])
    return cached(f"numbers-en-{language}-{key}", lambda: pair_arrays(in_words(numbers, language)))


def in_words(numbers: Iterable[int], language: str) -> list[Pair]:
    """Each number in English and in the language of that code, such as fr."""
    from num2words import num2words

    return [(num2words(number, lang="en"), num2words(number, lang=language)) for number in numbers]
