"""ChatterBot's English corpus (Cox): 2,026 conversations of small talk, trivia and technical support.

The PyPI package `chatterbot-corpus` 1.3.3 (BSD-3-Clause) contains them as YAML. Only the first two lines of
each are used: in many of the longer ones, the further lines are not turns but alternative answers to the
first line. Without duplicates, 898 conversations are left.
"""

import zipfile
from pathlib import Path

from training.datasets.base import Data, DataSet
from training.datasets.chat_pairs import KIND, as_line, read_conversations, split_conversations
from training.datasets.published_file import checked, fetch_from_package, found
from zoo.tasks.language_modelling import Message

NAME = "chatterbot"
FILE = Path("chatterbot-english.jsonl")
SHA256 = "b6eeceec1c2d065ae2f7444ea4a33e364e4151f9a8dcd1521f6546b4a860ea41"
PACKAGE = "chatterbot-corpus==1.3.3"
PACKAGE_SHA256 = "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154"
FOLDER = "chatterbot_corpus/data/english/"
SOURCE = "ChatterBot's corpus, from the PyPI package chatterbot-corpus 1.3.3"


def load() -> Data:
    """Loads questions and answers; fetches them from the package index if the file is missing."""
    path = found(FILE) or fetch_from_package(NAME, FILE, PACKAGE, PACKAGE_SHA256, write_pairs)
    return split_conversations(NAME, SOURCE, read_conversations(checked(path, SHA256)))


def is_present() -> bool:
    """Returns True if the file is in a data directory."""
    return found(FILE) is not None


def write_pairs(package: Path, staging: Path) -> None:
    """Writes the conversations in a package's archive to a file; runs no code of the package."""
    import yaml

    lines = []
    with zipfile.ZipFile(package) as wheel:
        for name in sorted(wheel.namelist()):
            if name.startswith(FOLDER) and name.endswith(".yml"):
                for asked, answer, *_ in yaml.safe_load(wheel.read(name))["conversations"]:
                    pair = [Message(role="user", content=asked), Message(role="assistant", content=answer)]
                    lines.append(as_line(pair))
    staging.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


DATASET = DataSet(NAME, KIND, "898 conversations", "BSD-3-Clause", SOURCE, load, is_present)
