"""A bundle proves itself: digests, golden request, all or nothing on disk."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from requirement import require

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


@pytest.mark.parametrize("field", ["model", "architecture", "dataset", "run_id", "data_digest"])
@pytest.mark.parametrize("value", ["a\r\nb: c", "a\n", "", "a" * 201, "../a", "é"])
def test_names_that_no_header_takes(written: Bundle, field: str, value: str) -> None:
    rewrite(written, lambda manifest: manifest.update({field: value}))
    with pytest.raises(BundleError, match=field) as refused:
        bundle.load(written.directory)
    assert str(refused.value).isprintable()


def test_reasons_say_neither_where_files_lie_nor_what_is_in_them(written: Bundle) -> None:
    rewrite(written, lambda manifest: manifest["files"].update({"/etc/passwd": "secret"}))  # type: ignore[attr-defined]
    with pytest.raises(BundleError) as refused:
        bundle.load(written.directory)
    assert str(refused.value).endswith("manifest.json (files) is not as the zoo writes it")
    assert "passwd" in str(refused.value.__cause__), "the log has all of it"


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_pipe_in_the_place_of_a_file(written: Bundle, name: str) -> None:
    require(hasattr(os, "mkfifo"), "named pipes")
    path = written.directory / name
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BundleError, match=f"{name} is not a regular file"):
        bundle.load(written.directory)


@pytest.mark.parametrize(
    ("name", "size", "why"),
    [
        ("manifest.json", bundle.MOST_MANIFEST_BYTES + 1, "manifest.json has"),
        ("card.md", bundle.MOST_DOCUMENT_BYTES + 1, "card.md has"),
        ("model.onnx", bundle.MOST_BYTES + 1, "the bundle has"),
    ],
)
def test_files_that_are_too_large_are_not_read(written: Bundle, name: str, size: int, why: str) -> None:
    os.truncate(written.directory / name, size)  # which takes no place on the disk
    with pytest.raises(BundleError, match=f"{why} .* bytes; at most"):
        bundle.load(written.directory)


def test_a_file_that_is_replaced_after_the_check_is_not_used(written: Bundle) -> None:
    loaded = bundle.load(written.directory)
    (written.directory / "model.onnx").write_bytes(graph(7.0))
    with pytest.raises(BundleError, match=r"model\.onnx is not the file"):
        loaded.open()


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/passwd", "*/_ORT_MEM_ADDR_/*"])
@pytest.mark.parametrize("constant", [False, True])
def test_weights_in_another_file(
    written: Bundle, monkeypatch: pytest.MonkeyPatch, location: str, constant: bool
) -> None:
    """Neither beside the graph nor in the working directory, and not as a node's value either."""
    monkeypatch.chdir(written.directory)
    for folder in (written.directory, written.directory.parent):
        (folder / "weights.bin").write_bytes(bytes(8))
    model = onnx.load_from_string(graph())
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "8"}.items():
        weights.external_data.add(key=key, value=value)
    if constant:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=weights))
        del model.graph.initializer[0]
    changed = replaced(written, "model.onnx", model.SerializeToString())
    with pytest.raises(BundleError) as refused:
        changed.open()
    assert str(written.directory.parent) not in str(refused.value)


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
