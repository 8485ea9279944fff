"""Pairs of texts: arrays of UTF-8, splits by group, and any file of two columns: `--dataset tsv:PATH`.

A split holds `source` and `target`, bytes [N] as wide as the longest text. NumPy drops trailing NULs of such
texts, so no text may contain one. Shape legend: N pairs.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from training import datasets
from training.datasets.base import Data, slug, split_examples
from training.datasets.text_file import read_lines
from zoo.errors import InvalidInput
from zoo.tasks import Arrays, Schema

log = logging.getLogger(__name__)
PREFIX = "tsv:"
KIND = "sequence_to_sequence"
MIN_PAIRS = 10  # in a file: an 80/20 split of fewer is too small to measure anything
Pair = tuple[str, str]  # source and target


def dataset_name(reference: str) -> str:
    """Returns the data set's name; for a file, its stem in lower case with words joined by hyphens."""
    if not reference.startswith(PREFIX):
        return reference
    return slug(Path(reference.removeprefix(PREFIX)).stem, "tsv")


def load_pairs(reference: str) -> Data:
    """Loads the data set with this name, or the file, split 80/20 and without duplicate pairs.

    `NotFound` if there is no such file; `InvalidInput` for the first line that is no pair, or for too few
    pairs.
    """
    if not reference.startswith(PREFIX):
        return datasets.find(reference).load()
    path = Path(reference.removeprefix(PREFIX)).expanduser()
    pairs = read_pairs(path)
    unique = list(dict.fromkeys(pairs))  # a duplicate could be in both splits
    if len(unique) < len(pairs):
        log.warning("%s: left out %d pairs that come again", path.name, len(pairs) - len(unique))
    if len(unique) < MIN_PAIRS:
        raise InvalidInput(f"{path.name} has {len(unique)} pairs; at least {MIN_PAIRS} are needed")
    arrays = pair_arrays(unique)
    inputs, target = {"source": arrays["source"]}, arrays["target"]
    return split_examples(dataset_name(reference), KIND, Schema(metric="bleu"), path.name, inputs, target)


def read_pairs(path: Path) -> list[Pair]:
    """Reads the pairs of a UTF-8 file with one tab in each line; errors as in `load_pairs`."""
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        columns = [column.strip() for column in line.split("\t")]
        if len(columns) != 2 or not all(columns) or "\0" in line:
            raise InvalidInput(
                f"line {number} of {path.name} is not two texts with a tab between: {line!r:.80}"
            )
        pairs.append((columns[0], columns[1]))
    return pairs


def pair_arrays(pairs: Iterable[Pair]) -> Arrays:
    """Returns the arrays of a split of these pairs; there must be at least one."""
    sources, targets = zip(*pairs, strict=True)
    return {
        "source": np.array([text.encode() for text in sources]),
        "target": np.array([text.encode() for text in targets]),
    }


def split_by_group(
    name: str, schema: Schema, source: str, pairs: Arrays, groups: Sequence[str], test_share: float
) -> Data:
    """Splits pairs by group, `groups` [N]: about `test_share` of the groups are for testing."""
    testing = {group for group in set(groups) if group_draw(group) < test_share}
    test = np.array([group in testing for group in groups])
    return Data(
        name=name,
        kind=KIND,
        schema=schema,
        source=source,
        train={key: array[~test] for key, array in pairs.items()},
        test={key: array[test] for key, array in pairs.items()},
    )


def group_draw(group: str) -> float:
    """Returns a number from 0 to 1 that depends only on a group's name, not on the other groups."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:4], "big") / 2**32


def cut(text: str, length: int) -> str:
    """Cuts a text between words to at most `length` characters; within the first word if that is longer."""
    return text if len(text) <= length else text[: length + 1].rpartition(" ")[0] or text[:length]
