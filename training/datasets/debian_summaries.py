"""Debian summaries: the one-line summary of a package, to be generated from its description.

Source: Debian's package descriptions, written by the maintainers. Packages built together share most of their
words, and the file does not contain the names of source packages; so packages with the same stem of the name,
such as libfoo2 and libfoo-dev, or with the same description or summary, are in the same split.
"""

import gzip
import re
from pathlib import Path

import numpy as np

from training.datasets.base import Data, DataSet
from training.datasets.pairs import KIND, cut, pair_arrays, split_by_group
from training.datasets.published_file import found
from zoo.errors import InvalidInput, NotFound
from zoo.home import data_directories
from zoo.tasks import Schema

NAME = "debian-summaries"
FILE = Path("debian_summaries.tsv.gz")
SOURCE = "Debian's package descriptions"
TEST_SHARE = 0.05  # share of the groups
LONGEST = 300  # characters; longer descriptions are cut, because the cost grows with the square
# Prefix of a package's name for a language or a kind of files.
PREFIX = re.compile(
    r"^(?:elpa|fonts|gir1\.2|golang(?:-[a-z]+)?|libghc|libjs|librust|linux|node|php|python3?|r-[a-z]+|ruby|texlive)-"
)
VERSION = re.compile(r"[\d.]+(?:t64)?[a-z]?$")
# Makes the file from the descriptions that apt keeps unless its languages have been turned off.
COMMAND = (
    "/usr/lib/apt/apt-helper cat-file /var/lib/apt/lists/*_Translation-en* | awk -v RS= -F '\\n' '"
    '{sub(/^Package: /, "", $1); sub(/^Description-en: /, "", $3); text = ""; '
    'for (i = 4; i <= NF; i++) {sub(/^ +(\\.$)?/, "", $i); if ($i != "") text = text (text ? " " : "") $i}; '
    'if (text) print $1 "\\t" $3 "\\t" text}'
    f"' | sort -u | gzip > {FILE}"
)
Row = tuple[str, str, str]  # name, summary, description


def load() -> Data:
    """Loads about 55,000 training and 3,000 test pairs; `NotFound` explains how to make the file."""
    path = found(FILE)
    if path is None:
        raise NotFound(
            f"{NAME} is not in {' or '.join(map(str, data_directories()))}; put {FILE} there, or point "
            f"ZOO_DATA to it. On Debian, this makes it: {COMMAND}"
        )
    return split_rows(read_rows(path))


def is_present() -> bool:
    """Returns True if the file is in a data directory."""
    return found(FILE) is not None


def read_rows(path: Path) -> list[Row]:
    """Reads one package per line, in three columns; `InvalidInput` names the first malformed line."""
    rows: list[Row] = []
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                name, summary, description = line.removesuffix("\n").split("\t")
                rows.append((name, summary, description))
    except (OSError, EOFError, ValueError) as error:
        raise InvalidInput(
            f"line {len(rows) + 1} of {path} is not a package's name, summary and description: {error}"
        ) from error
    return rows


def split_rows(rows: list[Row]) -> Data:
    """Makes pairs of description and summary, and splits them by group."""
    pairs = pair_arrays((cut(description, LONGEST), summary) for _, summary, description in rows)
    return split_by_group(NAME, Schema(metric="rouge_l"), SOURCE, pairs, groups(rows), TEST_SHARE)


def groups(rows: list[Row]) -> list[str]:
    """Returns for each package the name of the first package linked with it, directly or through others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links: list[tuple[int, int]] = []  # each to the first with the same stem, summary or description
    for column in zip(
        *((stem(name), summary, cut(text, LONGEST)) for name, summary, text in rows), strict=True
    ):
        first: dict[str, int] = {}
        links += [(row, first.setdefault(text, row)) for row, text in enumerate(column)]
    graph = coo_array((np.ones(len(links)), np.array(links).T), shape=(len(rows), len(rows)))
    _, group = connected_components(graph, directed=False)
    _, first_rows = np.unique(group, return_index=True)
    return [rows[row][0] for row in first_rows[group]]


def stem(name: str) -> str:
    """Returns the common stem of packages built together: libfoo for libfoo2 and python3-libfoo-doc."""
    first = PREFIX.sub("", name).partition("-")[0]
    return VERSION.sub("", first) or first


DATASET = DataSet(NAME, KIND, "58,292 packages", "each package's own", SOURCE, load, is_present)
