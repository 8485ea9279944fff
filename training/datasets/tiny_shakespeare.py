"""Tiny Shakespeare: 40,000 lines of Shakespeare's plays, 1,115,394 characters, all of them ASCII.

Source: Karpathy (2015), "The Unreasonable Effectiveness of Recurrent Neural Networks", and its code,
char-rnn. The plays are public domain. The usual split: in order, the last tenth for testing.
"""

from pathlib import Path

from training.datasets.base import Data, DataSet
from training.datasets.published_file import checked, fetch, found
from training.datasets.text_file import KIND, read_text, split_text

NAME = "tiny-shakespeare"
FILE = Path("tinyshakespeare.txt")
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SOURCE = "Karpathy 2015, char-rnn"


def load() -> Data:
    """Loads 1,003,855 training and 111,539 test characters; fetches the file if it is missing."""
    return split_text(NAME, SOURCE, read_text(checked(found(FILE) or fetch(NAME, FILE, URL, SHA256), SHA256)))


def is_present() -> bool:
    """Returns True if the file is in a data directory."""
    return found(FILE) is not None


DATASET = DataSet(NAME, KIND, "1,115,394 characters", "public domain", SOURCE, load, is_present)
