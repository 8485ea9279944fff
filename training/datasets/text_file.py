"""Texts: the end for testing, and any file of UTF-8 text as a data set: `--dataset text:PATH`.

Of a text a split holds `text`, uint8 [L]: UTF-8, cut between characters. Splits follow one another in the
text, training first, so that no passage is on both sides.

Shape legend: L bytes.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import datasets
from training.datasets.base import Data, slug
from zoo.errors import InvalidInput, NotFound
from zoo.tasks import Schema

PREFIX = "text:"
KIND = "language_modelling"
TEST_SHARE = 0.1
MIN_BYTES = 1000  # in a file: the tenth for testing is then a line or two, and fewer measure nothing


def dataset_name(reference: str) -> str:
    """The data set's name; of a file, its stem in lower case, words joined by hyphens."""
    if not reference.startswith(PREFIX):
        return reference
    return slug(Path(reference.removeprefix(PREFIX)).stem, "text")


def load_text(reference: str) -> Data:
    """The data set of that name, or the file; `NotFound` or `InvalidInput` where it is none, or too short."""
    if not reference.startswith(PREFIX):
        return datasets.find(reference).load()
    path = Path(reference.removeprefix(PREFIX)).expanduser()
    text = read_text(path)
    if (size := len(text.encode())) < MIN_BYTES:
        raise InvalidInput(f"{path.name} has {size} bytes of text; at least {MIN_BYTES} are needed")
    return split_text(dataset_name(reference), path.name, text)


def read_text(path: Path) -> str:
    """A file's text, its line ends Unix's; `NotFound` without it, `InvalidInput` where it is not UTF-8."""
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin files with a mark
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name} is no UTF-8 text: {error}") from error


def read_lines(path: Path) -> list[str]:
    """A file's lines without their ends; errors as in `read_text`."""
    return read_text(path).removesuffix("\n").split("\n")


def split_text(name: str, source: str, text: str, test_share: float = TEST_SHARE) -> Data:
    """A text in order: training first, the last `test_share` of its bytes for testing."""
    train, test = _split(np.frombuffer(bytearray(text, "utf-8"), dtype=np.uint8), test_share)
    return Data(name, KIND, Schema(), source, {"text": train}, {"text": test})


def hold_out_end(data: Data, share: float) -> Data:
    """The data with the last `share` of the training split as validation split.

    Data sets that have a validation split of their own keep it; a share of 0 leaves none. `InvalidInput` of
    conversations.
    """
    if "text" not in data.train:
        raise InvalidInput(
            f"{data.name} holds conversations and no text; train smollm2 on it, which learns to hold them"
        )
    if data.validation is not None or share == 0:
        return data
    kept, held = _split(data.train["text"], share)
    return replace(data, train={"text": kept}, validation={"text": held}, held_out_of=data.digest)


def _split(text: NDArray[Any], share: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """UTF-8 [L] in two, the second part `share` of it or up to three bytes more."""
    start = len(text) - max(1, round(len(text) * share))
    while text[start] & 0b1100_0000 == 0b1000_0000:  # inside a character
        start -= 1
    return text[:start], text[start:]
