"""Tiny Shakespeare: 40,000 lines of Shakespeare's plays, 1,115,394 characters, all of them ASCII.

Source: Karpathy (2015), "The Unreasonable Effectiveness of Recurrent Neural Networks", and its code,
char-rnn. The plays are public domain. The usual split: in order, the last tenth for testing.
"""

import logging
from pathlib import Path

from training.datasets.base import Data, DataSet
from training.datasets.text_file import KIND, checked, found, not_fetched, read_text, split_text
from zoo.home import data_directories

log = logging.getLogger(__name__)
NAME = "tiny-shakespeare"
FILE = Path("tinyshakespeare.txt")
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SOURCE = "Karpathy 2015, char-rnn"


def load() -> Data:
    """1,003,855 training and 111,539 test characters; fetched where the file is not there."""
    return split_text(NAME, SOURCE, read_text(checked(found(FILE) or _fetch(), SHA256)))


def is_present() -> bool:
    """Whether the file lies in a data directory."""
    return found(FILE) is not None


def _fetch() -> Path:
    from torch.hub import download_url_to_file

    path = data_directories()[-1] / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    log.info("fetching %s", URL)
    try:
        download_url_to_file(URL, str(path), hash_prefix=SHA256, progress=False)
    except (OSError, RuntimeError) as error:
        raise not_fetched(NAME, FILE, error) from error
    return path


DATASET = DataSet(NAME, KIND, "1,115,394 characters", "public domain", SOURCE, load, is_present)
