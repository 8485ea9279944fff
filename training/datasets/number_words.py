"""Code that the data sets of whole numbers below a million in words share. Made here, with num2words.

The numbers are unambiguous, so an answer is either right or wrong: the metric is exact match. The words are
num2words', which occasionally differ from what people write: "einhunderteinstausend".
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
SMALL = 1000  # all smaller numbers are for training: larger ones are composed of them
LARGE, TEST = 12_000, 1000  # number of random numbers from SMALL on, and of those for testing


def load_numbers(name: str, language: str) -> Data:
    """Loads 12,000 training and 1,000 test pairs, English to `language`; no number is in both splits."""
    drawn = random.Random(0).sample(range(SMALL, LARGEST + 1), LARGE)
    train, test = _pairs([*range(SMALL), *drawn[TEST:]], language), _pairs(drawn[:TEST], language)
    return Data(name, KIND, Schema(metric="exact"), SOURCE, train, test)


def _pairs(numbers: list[int], language: str) -> Arrays:
    """Returns the split of these numbers, cached because a number takes a third of a millisecond."""
    key = identity([version("num2words"), *map(str, numbers)])
    return cached(f"numbers-en-{language}-{key}", lambda: pair_arrays(in_words(numbers, language)))


def in_words(numbers: Iterable[int], language: str) -> list[Pair]:
    """Returns each number in English and in the language with this code, such as fr."""
    from num2words import num2words

    return [(num2words(number, lang="en"), num2words(number, lang=language)) for number in numbers]
