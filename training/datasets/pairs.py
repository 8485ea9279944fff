"""Pairs of texts: arrays of UTF-8, splits by group, and any file of two columns: `--dataset tsv:PATH`.

A split holds `source` and `target`, bytes [N] as wide as the longest text; NumPy drops NULs at the end of
such texts, so none may hold one. Shape legend: N pairs.
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
MIN_PAIRS = 10  # in a file: an 80/20 split of fewer measures nothing
Pair = tuple[str, str]  # source and target


def dataset_name(reference: str) -> str:
    """The data set's name; of a file, its stem in lower case, words joined by hyphens."""
    if not reference.startswith(PREFIX):
        return reference
    return slug(Path(reference.removeprefix(PREFIX)).stem, "tsv")


def load_pairs(reference: str) -> Data:
    """The data set of that name, or the file, split 80/20; pairs that come twice count once.

    `NotFound` without the file; `InvalidInput` names the first line that is no pair, or says that there are
    too few.
    """
    if not reference.startswith(PREFIX):
        return datasets.find(reference).load()
    path = Path(reference.removeprefix(PREFIX)).expanduser()
    pairs = read_pairs(path)
    unique = list(dict.fromkeys(pairs))  # one that comes twice could come on both sides of the split
    if len(unique) < len(pairs):
        log.warning("%s: left out %d pairs that come again", path.name, len(pairs) - len(unique))
    if len(unique) < MIN_PAIRS:
        raise InvalidInput(f"{path.name} has {len(unique)} pairs; at least {MIN_PAIRS} are needed")
    arrays = pair_arrays(unique)
    inputs, target = {"source": arrays["source"]}, arrays["target"]
    return split_examples(dataset_name(reference), KIND, Schema(metric="bleu"), path.name, inputs, target)


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file of UTF-8 with a tab in each line; errors as in `load_pairs`."""
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
    """A split of these pairs, of which there is at least one."""
    sources, targets = zip(*pairs, strict=True)
    return {
        "source": np.array([text.encode() for text in sources]),
        "target": np.array([text.encode() for text in targets]),
    }


def split_by_group(
    name: str, schema: Schema, source: str, pairs: Arrays, groups: Sequence[str], test_share: float
) -> Data:
    """About `test_share` of the groups for testing, and no group on both sides; `groups` [N]."""
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
    """Between 0 and 1, by a group's name alone: it stays on its side whatever other groups there are."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:4], "big") / 2**32


def cut(text: str, length: int) -> str:
    """The text, cut between words to at most `length` characters; within the first word if that is longer."""
    return text if len(text) <= length else text[: length + 1].rpartition(" ")[0] or text[:length]
