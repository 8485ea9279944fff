"""Pairs of texts: splits, digests, files that are not what they should be, what is fetched, numbers."""

import gzip
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.datasets.conftest import LEFT_OPEN, rows, sha256
from training import datasets
from training.datasets import Data, hold_out, multi30k, number_words, pairs
from training.datasets.pairs import load_pairs, pair_arrays, split_by_group
from zoo.errors import InvalidInput, NotFound
from zoo.tasks import Schema

NOWHERE = "http://127.0.0.1:9"
PAIRS = [(f"ein Satz Nr. {i} für Ähren", f"sentence no. {i}, “quoted”") for i in range(50)]


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


def test_no_such_file() -> None:
    with pytest.raises(NotFound, match="there is no file"):
        load_pairs("tsv:none.tsv")


# Published translations


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
