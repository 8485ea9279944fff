"""`zoo ask`: a champion that answers in this process, and the passages with their lines."""

import io
import json
from pathlib import Path

import pytest
from tiny_zoo import TALK, TinyRegistry, write_regression, write_writer

from zoo.cli import main

Captured = pytest.CaptureFixture[str]
TEXT = """Title

Of the [yak] it says here that it lives in Tibet
and nowhere else, as far as anybody knows who
has looked for it, which is not many people, and
none of them for long.

The owl lives in a barn. It says nothing of what
it eats there, nor of when it sleeps, and nobody
has asked it so far, since it is hardly ever seen
by anybody who would.
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> TinyRegistry:
    scratch = tmp_path_factory.mktemp("bundles")
    registry = TinyRegistry(tmp_path_factory.mktemp("home"))
    for made in (
        write_writer(scratch / "letters"),
        write_writer(scratch / "talker", name="rnn-talk", chat=TALK),
        write_regression(scratch / "regression"),
    ):
        registry.promote(made.manifest.model, registry.register(made))
    return registry


@pytest.fixture
def file(registry: TinyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ZOO_HOME", str(registry.home))
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):  # other tests' registries
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return str(path)


def test_the_answer_and_its_passages(file: str, capsys: Captured) -> None:
    main(["ask", file, "Where does the owl live?"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "bcdefghi"
    assert [line for line in lines if line.startswith("line")] == ["lines 1 to 6", "lines 8 to 11"]
    assert "  Of the [yak] it says here that it lives in Tibet" in lines
    assert lines[-1] == "rnn-talk version 1"
    assert max(map(len, lines)) <= 80


def test_json(file: str, capsys: Captured) -> None:
    main(["ask", file, "Where does the owl live?", "--json", "--model", "rnn-talk", "--max-tokens", "2"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["answer"] == "bc"
    assert answer["passages"] == [TEXT[start:end] for start, end in answer["spans"]]
    assert answer["passages"][1].startswith("The owl")
    assert answer["lineage"]["model"] == "rnn-talk"


def test_the_standard_input(file: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("One line of it."))
    main(["ask", "-", "How many?"])
    assert capsys.readouterr().out.splitlines()[2:4] == ["line 1", "  One line of it."]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere.txt", "?"), "there is no file nowhere.txt"),
        (("/", "?"), "/ cannot be read as a text"),
        (("{binary}", "?"), "cannot be read as a text: 'utf-8' codec"),
        (("{blank}", "?"), "there is no text in"),
        (("{file}", "?", "--model", "nope"), "no champion answers to 'nope'"),
        (("{file}", "?", "--model", "rnn-letters"), "this model holds no conversations"),
        (("{file}", "?", "--model", "diabetes"), "no champion answers to 'diabetes'"),
        (
            ("{file}", "?", "--model", "linear_regression-diabetes"),
            "linear_regression-diabetes is no language model; zoo predict",
        ),
        (("{file}", ""), "question"),
        (("{file}", "?", "--max-tokens", "0"), "max_tokens"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_errors_say_what_to_do(
    file: str, tmp_path: Path, words: tuple[str, ...], message: str, capsys: Captured
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "blank").write_text(" \n")
    paths = {"file": file, "binary": tmp_path / "binary", "blank": tmp_path / "blank"}
    with pytest.raises(SystemExit) as ended:
        main(["ask", *(word.format(**paths) for word in words)])
    assert ended.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_without_a_model_that_holds_conversations(home: Path, tmp_path: Path, capsys: Captured) -> None:
    registry = TinyRegistry(home)
    for made in (write_writer(tmp_path / "w"), write_writer(tmp_path / "t", name="rnn-talk", chat=TALK)):
        registry.register(made)
    registry.promote("rnn-letters", "1")
    (tmp_path / "text.txt").write_text(TEXT)
    with pytest.raises(SystemExit) as ended:
        main(["ask", str(tmp_path / "text.txt"), "Where?"])
    assert ended.value.code == 1
    assert "no champion holds conversations; zoo train smollm2 makes one" in capsys.readouterr().err


def test_the_best_of_several(home: Path, tmp_path: Path, capsys: Captured) -> None:
    registry = TinyRegistry(home)
    for name, chat, bits in (("rnn-a", TALK, 2.0), ("rnn-b", TALK, 1.8), ("rnn-c", None, 1.0)):
        registry.register(write_writer(tmp_path / name, name=name, chat=chat, bits=bits))
        registry.promote(name, "1")
    (tmp_path / "text.txt").write_text(TEXT)
    main(["ask", str(tmp_path / "text.txt"), "Where?"])
    assert capsys.readouterr().out.splitlines()[-1] == "rnn-b version 1"
