"""The `zoo` command: help, listings, exit codes, and a whole training from the command line."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from quick_training import QUICK, QuickZoo

from training import datasets, promotion, recipes
from training.store import connect
from zoo.cli import COMMANDS, main
from zoo.images import encode_png

Captured = pytest.CaptureFixture[str]


def run(*words: str) -> int:
    """Exit code of `zoo WORDS`."""
    try:
        main(words)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def one_document(capsys: Captured, *words: str) -> Any:
    """What `zoo WORDS --json` prints: one JSON document and nothing else."""
    capsys.readouterr()
    assert run(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


# Help and mistakes


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS)], ids="".join)
def test_help(words: tuple[str, ...], capsys: Captured) -> None:
    assert run(*words, "--help") == 0
    printed = capsys.readouterr().out
    assert "usage: zoo" in printed
    if not words:
        assert all(name in printed for name in COMMANDS)


@pytest.mark.parametrize("name", recipes.names())
def test_help_of_each_architecture(name: str, capsys: Captured) -> None:
    assert run("train", name, "--help") == 0
    printed = capsys.readouterr().out
    for option in ("--dataset", "--epochs", "--batch-size", "--seed", "--patience", "--precision", "--bar"):
        assert option in printed


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("fly",),
        ("list", "--nonsense"),
        ("promote", "mlp-xor"),
        ("predict",),
        ("train",),
        ("train", "lenet6"),
        ("train", "mlp", "--nonsense", "1"),
        ("train", "mlp", "--epochs", "many"),
        ("train", "mlp", "--optimizer.name", "magic"),
        ("train", "--resume"),
        ("serve", "--port", "http"),
    ],
    ids=" ".join,
)
def test_wrong_command_lines(words: tuple[str, ...], capsys: Captured) -> None:
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("promote", "mlp-mars", "1"), "there is no version 1 of 'mlp-mars'"),
        (("rollback", "mlp-mars"), "there is no model 'mlp-mars'"),
        (("challenger", "mlp-mars", "1"), "there is no version 1 of 'mlp-mars'"),
        (("challenger", "mlp-mars", "1", "--share", "10"), "such as 10% or 0.1"),
        (("challenger", "mlp-mars", "1", "--share", "1", "--shadow"), "either --shadow or --share"),
        (("challenger", "mlp-mars", "--stop", "--share", "1"), "either --shadow or --share"),
        (("challenger", "mlp-mars"), "or --report, or --stop"),
        (("challenger", "mlp-mars", "--stop"), "'mlp-mars' has no challenger"),
        (("challenger", "mlp-mars", "--report", "--url", "http://127.0.0.1:9"), "no service answers at"),
        (("export", "mlp-mars", "out"), "no champion answers to 'mlp-mars'"),
        (("predict", "mlp-mars", "1,2", "--local"), "no champion answers to 'mlp-mars'"),
        (("predict", "mlp-mars", "1,2", "--url", "http://127.0.0.1:9"), "no service answers at"),
        (("serve", "--bundles", "/nowhere"), "there is no folder /nowhere"),
        (("study", "alchemy"), "alchemy"),
        (("train", "mlp", "--dataset", "mars"), "there is no data set 'mars'; choose one of"),
        (("train", "lenet5", "--dataset", "digits"), "28, 30 or 32 pixels"),
        (("train", "mlp", "--epochs", "0"), "epochs must be at least 1"),
        (("train", "--resume", "0" * 32), "cannot be resumed"),
        (("train", "mlp", "--optimizer.momentum", "0.9"), "momentum is for sgd, rmsprop and muon"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_errors_say_what_to_do(words: tuple[str, ...], message: str, capsys: Captured) -> None:
    assert run(*words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in " ".join(captured.err.split())
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("words", [("list",), ("train", "mlp"), ("promote", "mlp-digits", "1")], ids=" ".join)
def test_an_installation_without_training_says_so(words: tuple[str, ...]) -> None:
    code = """
import sys
class Without:
    def find_spec(self, name, *_):
        if name == "training":
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Without())
from zoo.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs the package training" in done.stderr
    assert "Traceback" not in done.stderr


# Listings


def test_list(zoo: QuickZoo, capsys: Captured) -> None:
    rows = {row["architecture"]: row for row in one_document(capsys, "list")}
    assert list(rows) == recipes.names()
    for name, row in rows.items():
        assert row["paper"]
        assert row["parameters"] > 0
        assert row["datasets"] == list(recipes.recipes(name))
        assert {c["dataset"] for c in row["champions"]} == {
            QUICK[n, dataset].dataset_name
            for (n, dataset), result in zoo.results.items()
            if n == name and result.champion
        }
    assert rows["lenet5"]["parameters"] == 61_706


def test_data(capsys: Captured) -> None:
    rows = {row["dataset"]: row for row in one_document(capsys, "data")}
    assert list(rows) == datasets.names()
    assert rows["digits"]["present"] is True
    assert rows["mnist"]["present"] is False
    assert all(row["licence"] and row["source"] and row["size"] for row in rows.values())


LEADERBOARD = {
    "model": str,
    "version": str,
    "dataset": str,
    "metric": str,
    "value": float,
    "run_id": str,
    "parameters": int,
    "train_seconds": float,
    "onnx_bytes": int,
    "latency_ms": float,
    "champion": bool,
}


def test_leaderboard(zoo: QuickZoo, capsys: Captured) -> None:
    rows = one_document(capsys, "leaderboard")
    assert len(rows) == len(zoo.results)
    for row in rows:
        for name, kind in LEADERBOARD.items():
            assert type(row[name]) is kind, name
        assert (row["gate"] == "passed") or not row["champion"]
    diabetes = one_document(capsys, "leaderboard", "diabetes")
    assert {row["dataset"] for row in diabetes} == {"diabetes"}
    values = [row["value"] for row in diabetes]
    assert values == sorted(values)
    digits = [r["value"] for r in rows if r["dataset"] == "xor"]
    assert digits == sorted(digits, reverse=True)


def test_an_empty_leaderboard(home: Path, capsys: Captured) -> None:
    assert one_document(capsys, "leaderboard") == []


@pytest.mark.parametrize("words", [("list",), ("data",), ("leaderboard",), ("study",)], ids="".join)
def test_tables_fit_the_terminal(
    zoo: QuickZoo, words: tuple[str, ...], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80


# Predictions


def test_predict_rows(zoo: QuickZoo, capsys: Captured, tmp_path: Path) -> None:
    answer = one_document(capsys, "predict", "mlp-xor", "0,1", '{"a": 1, "b": 1}', "[1, 0]", "--local")
    assert [p["label"] for p in answer["predictions"]] == ["1", "0", "1"]
    lineage = answer["lineage"]
    assert set(lineage) == {"model", "version", "run_id", "digest", "provider"}
    assert lineage["model"] == "mlp-xor"
    assert lineage["run_id"] == zoo.results["mlp", "xor"].run_id
    by_data_set = one_document(capsys, "predict", "xor", "0,1", "--local")
    assert by_data_set["lineage"] == lineage
    (tmp_path / "row.json").write_text("[0, 0]")
    assert run("predict", "mlp-xor", str(tmp_path / "row.json"), "--local") == 0
    assert "mlp-xor version 1" in capsys.readouterr().out


def test_predict_the_next_steps(zoo: QuickZoo, capsys: Captured, tmp_path: Path) -> None:
    steps = [str(10.5 + year % 11) for year in range(22)]
    (tmp_path / "years.csv").write_text("\n".join(steps) + "\n")
    words = one_document(capsys, "predict", "lstm-sunspots", *steps, "--local")
    file = one_document(capsys, "predict", "lstm-sunspots", str(tmp_path / "years.csv"), "--local")
    assert words == file
    ((low,),), ((value,),), ((high,),) = (file[side] for side in ("lower", "forecast", "upper"))
    assert low < value < high
    assert run("predict", "lstm-sunspots", *steps, "--local") == 0
    assert f"{value:.6g} ({low:.6g} to {high:.6g})" in capsys.readouterr().out
    assert run("predict", "lstm-sunspots", "many", "--local") == 1
    assert "neither a number nor a file" in capsys.readouterr().err


def test_predict_images(zoo: QuickZoo, capsys: Captured, tmp_path: Path) -> None:
    test = datasets.find("digits").load().test
    files = []
    for i in range(20):
        path = tmp_path / f"{i}.png"
        path.write_bytes(encode_png(test["image"][i]))
        files.append(str(path))
    answer = one_document(capsys, "predict", "mlp-digits", *files, "--local")
    hits = [p["label"] == str(t) for p, t in zip(answer["predictions"], test["target"], strict=False)]
    assert len(hits) == 20
    assert sum(hits) >= 14


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (("mlp-xor", "0,1,2"), "rows[0] has 3 values; expected 2"),
        (("mlp-xor", '{"a": 1}'), "rows[0] lacks ['b']"),
        (("mlp-xor", "zero"), "neither a file, nor JSON, nor numbers"),
        (("mlp-xor", '{"a": "x", "b": 1}'), "does not fit"),
        (("mlp-digits", "no.png"), "there is no image file no.png"),
        (("mlp-xor",), "give at least one input"),
    ],
)
def test_inputs_that_do_not_fit(
    zoo: QuickZoo, inputs: tuple[str, ...], message: str, capsys: Captured
) -> None:
    assert run("predict", *inputs, "--local") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in " ".join(captured.err.split())


# From the command line to a champion


def test_train_lenet5_and_back(home: Path, capsys: Captured, tmp_path: Path) -> None:
    words = ("train", "lenet5", "--dataset", "mnist-5k", "--epochs", "1", "--optimizer.name", "adam")
    result = one_document(capsys, *words, "--bar", "0.5")
    assert result["model"] == "lenet5-mnist-5k"
    assert result["champion"] is True
    assert result["value"] > 0.5
    params = connect().get_run(result["run_id"]).data.params
    assert (params["epochs"], params["optimizer.name"], params["bar"]) == ("1", "adam", "0.5")
    assert params["optimizer.learning_rate"] == "0.002", "the data set's own recipe is the default"

    assert run("rollback", "lenet5-mnist-5k") == 1
    assert run("promote", "lenet5-mnist-5k", "1") == 0
    assert "lenet5-mnist-5k version 1 is champion" in capsys.readouterr().out
    assert run("export", "mnist-5k", str(tmp_path / "lenet")) == 0
    golden = json.loads((tmp_path / "lenet" / "golden.json").read_text())
    picture = tmp_path / "digit.png"
    picture.write_bytes(base64.b64decode(golden["request"]["image"]))
    answer = one_document(capsys, "predict", "lenet5-mnist-5k", str(picture), "--local")
    assert answer["predictions"][0]["label"] == golden["answer"]["predictions"][0]["label"]


HOUSES = "Living Area,rooms,Sale Price\n" + "".join(f"{50 + i},{i % 4},{100.5 + 2 * i}\n" for i in range(60))
FLOWERS = "petal length,kind of flower\n" + "".join(
    f"{i / 10},{'rose' if i > 30 else 'wild rose'}\n" for i in range(60)
)


@pytest.mark.slow
def test_train_on_a_table_of_numbers(home: Path, capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "My Houses.csv"
    path.write_text(HOUSES.replace("\n51,", "\n,"))
    given = ("--dataset", f"csv:{path}", "--target", "Sale Price", "--epochs", "100")
    result = one_document(capsys, "train", "linear-regression", *given)
    assert result["model"] == "linear-regression-my-houses"
    assert result["metrics"]["r2"] > 0.99
    answer = one_document(capsys, "predict", "my-houses", '{"Living Area": 60, "rooms": 2}', "--local")
    assert answer["predictions"][0]["value"] == pytest.approx(120.5, abs=1)


@pytest.mark.slow
def test_train_on_a_table_of_words(home: Path, capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "flowers.csv"
    path.write_text(FLOWERS)
    given = ("--dataset", f"csv:{path}", "--target", "kind of flower")
    result = one_document(capsys, "train", "perceptron", *given, "--epochs", "30")
    assert result["model"] == "perceptron-flowers"
    assert result["value"] >= 0.9
    assert run("train", "linear-regression", *given) == 1
    assert "linear-regression learns tabular_regression" in " ".join(capsys.readouterr().err.split())
    assert run("train", "mlp", "--dataset", f"csv:{path}", "--target", "petal length") == 1
    assert "features must be numeric" in capsys.readouterr().err
    assert len(promotion.leaderboard()) == 1


@pytest.mark.parametrize("words", [["leaderboard"], ["leaderboard", "--json"]])
def test_nobody_reads_the_output(words: list[str], home: Path) -> None:
    zoo = Path(sys.executable).with_name("zoo")
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run([zoo, *words], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, b"")
