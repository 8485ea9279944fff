"""Texts as data sets, with their end for testing, and any file of UTF-8 text: `--dataset text:PATH`.

A split holds `text`, uint8 [L]: UTF-8, cut between characters. The splits are consecutive parts of the text,
training first, so that no passage is in two of them.

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
MIN_BYTES = 1000  # in a file: the tenth for testing is then a line or two; less is too little to measure


def dataset_name(reference: str) -> str:
    """Returns the data set's name; for a file, its stem in lower case with words joined by hyphens."""
    if not reference.startswith(PREFIX):
        return reference
    return slug(Path(reference.removeprefix(PREFIX)).stem, "text")


def load_text(reference: str) -> Data:
    """Loads the data set with this name, or the file.

    `NotFound` if there is no such file; `InvalidInput` if it is not UTF-8 or too short.
    """
    if not reference.startswith(PREFIX):
        return datasets.find(reference).load()
    path = Path(reference.removeprefix(PREFIX)).expanduser()
    text = read_text(path)
    if (size := len(text.encode())) < MIN_BYTES:
        raise InvalidInput(f"{path.name} has {size} bytes of text; at least {MIN_BYTES} are needed")
    return split_text(dataset_name(reference), path.name, text)


def read_text(path: Path) -> str:
    """Returns a file's text with Unix line ends; `NotFound` without the file, `InvalidInput` if not UTF-8."""
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name} is no UTF-8 text: {error}") from error


def read_lines(path: Path) -> list[str]:
    """Returns a file's lines without their line ends; errors as in `read_text`."""
    return read_text(path).removesuffix("\n").split("\n")


def split_text(name: str, source: str, text: str, test_share: float = TEST_SHARE) -> Data:
    """Splits a text in order: training first, the last `test_share` of its bytes for testing."""
    train, test = _split(np.frombuffer(bytearray(text, "utf-8"), dtype=np.uint8), test_share)
    return Data(name, KIND, Schema(), source, {"text": train}, {"text": test})


def hold_out_end(data: Data, share: float) -> Data:
    """Moves the last `share` of the training split to a validation split.

    A data set with a validation split of its own keeps it; with a share of 0, there is none. `InvalidInput`
    for data that hold conversations.
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
    """Splits UTF-8 [L] between characters; the second part is `share` of it, or up to three bytes more."""
    start = len(text) - max(1, round(len(text) * share))
    while text[start] & 0b1100_0000 == 0b1000_0000:  # inside a character
        start -= 1
    return text[:start], text[start:]
