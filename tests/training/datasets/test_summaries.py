"""Summaries: what is taken of docstrings and of Debian's descriptions, and split by package."""

import gzip
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.training.datasets.conftest import rows
from training import datasets
from training.datasets import debian_summaries, docstrings
from zoo.errors import InvalidInput, NotFound
from zoo.tasks import Arrays

# Docstrings

MODULE = '''"""Reads and writes files of tables.

Each file   has a header, and as many
rows as memory holds.
"""

class Table:
    """A table of named columns!
    All columns have as many values, and values of one type.
    """

    def add(self, row):
        """Adds one row at the end of the table

        The row has to have a value for each column, of its type.
        """

    def _hidden(self):
        """Private things are read, too.

        Many a package makes them public under another name.
        """

def long(value):
    """First line of something that is long.

    {long}
    """

def wrapped(value):
    """This is a first line that goes on in the second
    line, and so is no summary of what follows it here.
    """

def short():
    """Too short a description follows.

    This one.
    """

def broken():
    """A docstring with a character that is not text.

    This has a NUL \\0 inside, which no text of a pair may hold.
    """
'''


def test_docstrings_of_a_module() -> None:
    words = " ".join(["word"] * 200)
    found = list(docstrings.read_docstrings(MODULE.replace("{long}", words).encode()))
    assert found == [
        ("Each file has a header, and as many rows as memory holds.", "Reads and writes files of tables."),
        ("All columns have as many values, and values of one type.", "A table of named columns!"),
        ("The row has to have a value for each column, of its type.", "Adds one row at the end of the table"),
        ("Many a package makes them public under another name.", "Private things are read, too."),
        (words[:299], "First line of something that is long."),
    ]


@pytest.mark.parametrize("module", [b'print """python 2"""', '"""für"""'.encode("latin-1"), b'"""\0"""', b""])
def test_modules_that_are_not_read(module: bytes) -> None:
    assert not list(docstrings.read_docstrings(module))


def module(number: int) -> str:
    rest = f"The rest of the text of function {{k}} of package {number}, which is long enough."
    functions = [f'def f{k}():\n    r"""Does \\d thing {k}.\n\n    {rest}\n    """\n' for k in range(6)]
    return "".join(text.replace("{k}", str(k)) for k, text in enumerate(functions))


@pytest.fixture
def installed(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty packages of one file, one of them copied into another, and files that are left out."""
    root = tmp_path / "installed"
    for number in range(40):
        (root / f"package{number}").mkdir(parents=True)
        (root / f"package{number}" / "__init__.py").write_text(module(number))
    (root / "package7" / "copied.py").write_text(module(3))
    for name in ("package7/tests/test_a.py", "package7/_vendor/copy.py", "site-packages/other.py"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(module(99))
    (root / "_single.py").write_text(module(40))
    monkeypatch.setattr(
        "sysconfig.get_paths", lambda: dict.fromkeys(("stdlib", "purelib", "platlib"), str(root))
    )
    return root


def packages(split: Arrays) -> set[str]:
    return {source.split("package ")[1].split(",")[0] for source, _ in rows(split)}


def test_docstrings_of_a_package_are_on_one_side(installed: Path, home: Path) -> None:
    data = datasets.find("docstrings").load()
    assert data.schema.metric == "rouge_l"
    train, test = packages(data.train), packages(data.test)
    assert not train & test
    assert train | test == {str(number) for number in range(41)}
    assert test
    assert len(rows(data.train)) + len(rows(data.test)) == 41 * 6
    assert len(list((home / "cache").iterdir())) == 1
    assert datasets.find("docstrings").load().digest == data.digest
    (installed / "_single.py").unlink()
    fewer = datasets.find("docstrings").load()
    assert set(rows(fewer.train)) | set(rows(fewer.test)) < set(rows(data.train)) | set(rows(data.test))
    assert set(rows(fewer.test)) <= set(rows(data.test))


def test_large_packages_are_capped(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = docstrings.python_files([installed])
    monkeypatch.setattr(docstrings, "PACKAGE_PAIRS", 5)
    assert len(docstrings.read_packages(files)["source"]) == 41 * 5
    monkeypatch.setattr(docstrings, "MOST_PAIRS", 100)
    kept = docstrings.read_packages(files)
    assert np.unique(kept["package"], return_counts=True)[1].tolist() == [2] * 41


# Debian's summaries


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("0ad", "0ad"),
        ("0ad-data", "0ad"),
        ("2048", "2048"),
        ("libfoo1", "libfoo"),
        ("libfoo-dev", "libfoo"),
        ("libssl3t64", "libssl"),
        ("libglib2.0-0", "libglib"),
        ("python3-foo", "foo"),
        ("python-foo-doc", "foo"),
        ("golang-github-user-thing-dev", "user"),
        ("r-cran-foo", "foo"),
        ("node-2.0", "2.0"),
    ],
)
def test_stems(name: str, stem: str) -> None:
    assert debian_summaries.stem(name) == stem


def described(name: str, summary: str = "", text: str = "") -> debian_summaries.Row:
    return name, summary or f"what {name} is", text or f"{name} is a package that does things for äöü"


DESCRIBED = [
    described("foo1"),
    described("bar", "a summary that two packages share"),
    described("foo-dev", "a summary that two packages share"),
    described("baz", "", "the same words"),
    described("python3-bar", "", "the same words"),
    described("other"),
]


def test_packages_are_grouped_by_stem_summary_and_description() -> None:
    assert debian_summaries.groups(DESCRIBED) == ["foo1"] * 5 + ["other"]


def described_file(path: Path, lines: list[str]) -> None:
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))


def test_summaries_are_split_by_group(given: Path) -> None:
    everything = [
        described(f"{letter}{name}{suffix}", text=f"{letter} {name}{suffix} " + "words " * 150)
        for letter in "abcdefghij"
        for name in ("foo", "bar", "baz", "qux", "quux", "corge", "grault", "waldo", "fred", "plugh")
        for suffix in ("1", "-dev", "-doc")
    ]
    random.Random(0).shuffle(everything)
    described_file(given / debian_summaries.FILE, ["\t".join(row) for row in everything])
    assert debian_summaries.is_present()
    data = debian_summaries.load()
    assert data.schema.metric == "rouge_l"
    train, test = rows(data.train), rows(data.test)
    assert len(train) + len(test) == 300
    stems = [{debian_summaries.stem(target.split()[1]) for _, target in split} for split in (train, test)]
    assert not stems[0] & stems[1]
    assert 1 <= len(stems[1]) <= 15
    assert all(250 < len(source) <= 300 for source, _ in train)
    assert debian_summaries.load().digest == data.digest


def test_summaries_that_are_nowhere(given: Path) -> None:
    assert not debian_summaries.is_present()
    with pytest.raises(NotFound, match=rf"not in {given} or .*put {debian_summaries.FILE} there.*apt-helper"):
        debian_summaries.load()


@pytest.mark.parametrize("line", ["one\ttwo", "one\ttwo\tthree\tfour", ""])
def test_lines_that_describe_no_package(given: Path, line: str) -> None:
    described_file(given / debian_summaries.FILE, ["\t".join(DESCRIBED[0]), line])
    with pytest.raises(InvalidInput, match=r"line 2 of .* is not a package's name, summary and description"):
        debian_summaries.load()


def test_a_file_that_is_not_compressed(given: Path) -> None:
    (given / debian_summaries.FILE).write_text("\t".join(DESCRIBED[0]))
    with pytest.raises(InvalidInput, match=r"line 1 of .*"):
        debian_summaries.load()


TRANSLATIONS = """Package: foo
Description-md5: 0123
Description-en: reads äöü
 Foo reads
 everything:
 .
  * all of it

Package: bar
Description-md5: 4567
Description-en: writes
 Bar writes.
"""


def test_the_command_that_makes_the_file(tmp_path: Path) -> None:
    (tmp_path / "translations").write_text(TRANSLATIONS, encoding="utf-8")
    _, _, command = debian_summaries.COMMAND.partition(" | ")
    subprocess.run(f"cat translations | {command}", shell=True, check=True, cwd=tmp_path)
    assert sorted(debian_summaries.read_rows(tmp_path / debian_summaries.FILE)) == [
        ("bar", "writes", "Bar writes."),
        ("foo", "reads äöü", "Foo reads everything: * all of it"),
    ]
