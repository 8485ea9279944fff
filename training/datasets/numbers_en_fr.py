"""Numbers in words, from English into French: see `number_words`."""

from training.datasets.base import Data, DataSet
from training.datasets.number_words import LICENCE, SIZE, SOURCE, load_numbers
from training.datasets.pairs import KIND

NAME = "numbers-en-fr"


def load() -> Data:
    """Loads the data set, as described in `load_numbers`."""
    return load_numbers(NAME, "fr")


DATASET = DataSet(NAME, KIND, SIZE, LICENCE, SOURCE, load)
