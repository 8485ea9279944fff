"""Texts of Python's `help()` about the language itself, statement by statement: half a megabyte of English.

Source: the module `pydoc_data.topics` of the standard library. Every Python contains it; versions differ.
"""

from training.datasets.base import Data, DataSet
from training.datasets.text_file import KIND, split_text

NAME = "python-topics"
SOURCE = "Python's standard library, for help()"


def load() -> Data:
    """Loads all topics, sorted by name, with empty lines between them."""
    from pydoc_data.topics import topics

    return split_text(NAME, SOURCE, "\n\n".join(topics[name].strip() for name in sorted(topics)) + "\n")


DATASET = DataSet(NAME, KIND, "465,000 characters", "PSF", SOURCE, load)
