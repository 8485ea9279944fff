"""A bundle proves itself: digests, golden request, all or nothing on disk."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo import bundle
from zoo.bundle import Bundle, Identity
from zoo.errors import BundleError
from zoo.tasks import Schema, TabularRegression

TRAIN = {
    "features": np.random.default_rng(0).normal(3, 2, (40, 2)),
    "target": np.random.default_rng(1).normal(size=40),
}
TASK = TabularRegression.fit(TRAIN, Schema(feature_names=("a", "b"), target="y", unit="m"))
IDENTITY = Identity(
    model="linear-regression-tiny",
    architecture="linear-regression",
    dataset="tiny",
    kind=TASK.kind,
    run_id="0" * 32,
    data_digest="d" * 64,
    parameters=3,
    metrics={"mse": 1.5},
)
FILES = ["model.onnx", "task.json", "golden.json", "baseline.json", "card.md"]


def graph(bias: float = 1.0) -> bytes:
    """`value` = a + 2b + bias."""
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("MatMul", ["features", "w"], ["product"]),
                helper.make_node("Add", ["product", "bias"], ["value"]),
            ],
            "tiny",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 2])],
            [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch"])],
            [
                numpy_helper.from_array(np.float32([1, 2]), "w"),
                numpy_helper.from_array(np.array(bias, np.float32), "bias"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write(directory: Path, graph: bytes, card: str = "# tiny\n") -> Bundle:
    return bundle.write(directory, IDENTITY, TASK, {"model": graph}, TASK.example_inputs(1), TRAIN, card)


@pytest.fixture
def written(tmp_path: Path) -> Bundle:
    return write(tmp_path / "bundle", graph())


def rewrite(written: Bundle, change: Callable[[dict[str, object]], None]) -> None:
    """Alters the manifest as someone would who keeps its digests right."""
    path = written.directory / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_what_is_written_is_loaded(written: Bundle) -> None:
    loaded = bundle.load(written.directory)
    assert loaded == written
    assert loaded.task == TASK
    assert loaded.manifest.model_dump(exclude={"files", "format"}) == IDENTITY.model_dump()
    assert sorted(loaded.manifest.files) == sorted(FILES)
    assert sorted(path.name for path in written.directory.iterdir()) == sorted([*FILES, "manifest.json"])
    assert loaded.read_text("card.md") == "# tiny\n"
    loaded.replay(loaded.open())


def test_the_graph_answers(written: Bundle) -> None:
    answer = bundle.ask(written.task, written.open(), {"model": "m", "rows": [[1, 2], {"b": 1, "a": 0}]})
    assert [p["value"] for p in answer["predictions"]] == [6, 3]


def test_digest_is_the_manifests_and_stable(tmp_path: Path, written: Bundle) -> None:
    manifest = (written.directory / "manifest.json").read_bytes()
    assert written.digest == hashlib.sha256(manifest).hexdigest()
    assert write(tmp_path / "again", graph()).digest == written.digest
    assert write(tmp_path / "other", graph(2.0)).digest != written.digest
    assert write(tmp_path / "reworded", graph(), "# other\n").digest != written.digest


@pytest.mark.parametrize("name", FILES)
def test_altered_file(written: Bundle, name: str) -> None:
    path = written.directory / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} is not the file that the manifest names"):
        bundle.load(written.directory)


@pytest.mark.parametrize("name", FILES)
def test_truncated_file(written: Bundle, name: str) -> None:
    path = written.directory / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=f"{name} is not the file that the manifest names"):
        bundle.load(written.directory)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_missing_file(written: Bundle, name: str) -> None:
    (written.directory / name).unlink()
    with pytest.raises(BundleError, match="bundle is not a complete bundle"):
        bundle.load(written.directory)


@pytest.mark.parametrize("name", FILES)
def test_file_that_the_manifest_does_not_name(written: Bundle, name: str) -> None:
    rewrite(written, lambda manifest: manifest["files"].pop(name))  # type: ignore[attr-defined]
    with pytest.raises(BundleError, match=f"the manifest does not name .*{name}"):
        bundle.load(written.directory)


@pytest.mark.parametrize(
    "name", ["../secret.txt", "/etc/passwd", "a/b.txt", "..", "", "secret.txt\n", "Model.onnx", "a\x00.txt"]
)
def test_nothing_outside_the_directory_is_read(written: Bundle, name: str) -> None:
    secret = written.directory.parent / "secret.txt"
    secret.write_text("secret")
    digest = hashlib.sha256(b"secret").hexdigest()
    rewrite(written, lambda manifest: manifest["files"].update({name: digest}))  # type: ignore[attr-defined]
    with pytest.raises(BundleError, match="not a complete bundle"):
        bundle.load(written.directory)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 2}', b"[" * 100_000], ids=repr
)
def test_manifest_that_is_none(written: Bundle, content: bytes) -> None:
    (written.directory / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError):
        bundle.load(written.directory)


def test_format_of_the_future(written: Bundle) -> None:
    rewrite(written, lambda manifest: manifest.update(format=2))
    with pytest.raises(BundleError, match="format"):
        bundle.load(written.directory)


def replaced(written: Bundle, name: str, content: bytes) -> Bundle:
    """The bundle with another file, in agreement with its manifest."""
    (written.directory / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    rewrite(written, lambda manifest: manifest["files"].update({name: digest}))  # type: ignore[attr-defined]
    return bundle.load(written.directory)


def test_another_graph_gives_another_golden_answer(written: Bundle) -> None:
    changed = replaced(written, "model.onnx", graph(1.1))
    with pytest.raises(BundleError, match="the golden request was answered"):
        changed.replay(changed.open())


@pytest.mark.parametrize("change", ["value", "unit", "length", "key"])
def test_another_golden_answer_is_refused(written: Bundle, change: str) -> None:
    golden = json.loads(written.read_text("golden.json"))
    predictions = golden["answer"]["predictions"]
    if change == "value":
        predictions[0]["value"] *= 1.01
    elif change == "unit":
        predictions[0]["unit"] = "km"
    elif change == "length":
        predictions.append(predictions[0])
    else:
        golden["answer"]["more"] = 1
    changed = replaced(written, "golden.json", json.dumps(golden).encode())
    with pytest.raises(BundleError, match="the golden request was answered"):
        changed.replay(changed.open())


def test_rounding_of_another_machine_is_no_other_answer(written: Bundle) -> None:
    golden = json.loads(written.read_text("golden.json"))
    golden["answer"]["predictions"][0]["value"] *= 1 + 1e-6
    changed = replaced(written, "golden.json", json.dumps(golden).encode())
    changed.replay(changed.open())


def test_golden_request_that_does_not_fit_the_task(written: Bundle) -> None:
    golden = json.loads(written.read_text("golden.json")) | {"request": {"model": "m", "words": []}}
    changed = replaced(written, "golden.json", json.dumps(golden).encode())
    with pytest.raises(BundleError, match="does not fit RowsRequest"):
        changed.replay(changed.open())


def test_broken_graph_is_refused(written: Bundle) -> None:
    changed = replaced(written, "model.onnx", b"no graph")
    with pytest.raises(BundleError, match="cannot open the graph"):
        changed.open()


@pytest.mark.parametrize("made", [b"no graph", graph(float("nan"))], ids=["unreadable", "not a number"])
def test_a_failed_write_leaves_nothing(tmp_path: Path, made: bytes) -> None:
    with pytest.raises(BundleError):
        write(tmp_path / "bundle", made)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_not_overwritten(tmp_path: Path, written: Bundle) -> None:
    with pytest.raises(OSError, match="not empty"):
        write(tmp_path / "bundle", graph(2.0))
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert bundle.load(tmp_path / "bundle").digest == written.digest


def test_files_of_others_are_no_part_of_it(written: Bundle) -> None:
    (written.directory / "MLmodel").write_text("flavors: {}")
    assert bundle.load(written.directory).digest == written.digest
