"""Debian summaries: a package's one-line summary, to be written from its description.

Source: Debian's package descriptions, which their maintainers wrote. Packages built together share most of
their words, and a file of them has no names of source packages; so packages whose names have the same stem,
as libfoo2 and libfoo-dev, or the same description or summary, are on one side of the split.
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
TEST_SHARE = 0.05  # of the groups
LONGEST = 300  # characters of a description; longer ones are cut: the cost grows as the square
# Before the name of what was packaged, for a language or a kind of files.
PREFIX = re.compile(
    r"^(?:elpa|fonts|gir1\.2|golang(?:-[a-z]+)?|libghc|libjs|librust|linux|node|php|python3?|r-[a-z]+|ruby|texlive)-"
)
VERSION = re.compile(r"[\d.]+(?:t64)?[a-z]?$")
# Of the descriptions that apt keeps where its languages have not been turned off.
COMMAND = (
    "/usr/lib/apt/apt-helper cat-file /var/lib/apt/lists/*_Translation-en* | awk -v RS= -F '\\n' '"
    '{sub(/^Package: /, "", $1); sub(/^Description-en: /, "", $3); text = ""; '
    'for (i = 4; i <= NF; i++) {sub(/^ +(\\.$)?/, "", $i); if ($i != "") text = text (text ? " " : "") $i}; '
    'if (text) print $1 "\\t" $3 "\\t" text}'
    f"' | sort -u | gzip > {FILE}"
)
Row = tuple[str, str, str]  # name, summary, description


def load() -> Data:
    """About 55,000 training and 3,000 test pairs; `NotFound` says how the file is made."""
    path = found(FILE)
    if path is None:
        raise NotFound(
            f"{NAME} is not in {' or '.join(map(str, data_directories()))}; put {FILE} there, or point "
            f"ZOO_DATA to it. On Debian, this makes it: {COMMAND}"
        )
    return split_rows(read_rows(path))


def is_present() -> bool:
    """Whether the file lies in a data directory."""
    return found(FILE) is not None


def read_rows(path: Path) -> list[Row]:
    """A package a line, three columns; `InvalidInput` names the first line that is something else."""
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
    """Descriptions and summaries, split by group."""
    pairs = pair_arrays((cut(description, LONGEST), summary) for _, summary, description in rows)
    return split_by_group(NAME, Schema(metric="rouge_l"), SOURCE, pairs, groups(rows), TEST_SHARE)


def groups(rows: list[Row]) -> list[str]:
    """For each package the name of the first that it is linked with, directly or over others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links: list[tuple[int, int]] = []  # each to the first with the same stem, summary and description
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
    """What packages built together have in common: libfoo of libfoo2, libfoo-dev and python3-libfoo-doc."""
    first = PREFIX.sub("", name).partition("-")[0]
    return VERSION.sub("", first) or first


DATASET = DataSet(NAME, KIND, "58,292 packages", "each package's own", SOURCE, load, is_present)
