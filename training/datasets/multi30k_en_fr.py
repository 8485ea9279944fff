"""Multi30k, from English into French; see `multi30k` for the sources."""

from training.datasets.base import Data, DataSet
from training.datasets.multi30k import LICENCE, SIZE, SOURCE, is_present, load_multi30k
from training.datasets.pairs import KIND

NAME = "multi30k-en-fr"


def load() -> Data:
    """Loads the data set, as described in `load_multi30k`."""
    return load_multi30k(NAME, "fr", into_english=False)


DATASET = DataSet(NAME, KIND, SIZE, LICENCE, SOURCE, load, lambda: is_present("fr"))
