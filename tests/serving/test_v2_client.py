"""Every method of Triton's own client, one that waits and one that awaits, against the real service."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from server import Server
from tiny_zoo import SIDE
from tritonclient.utils import InferenceServerException

from zoo.tasks.base import MAX_BATCH

LINEAGE = {"model", "version", "run_id", "digest", "provider"}
DIGIT = "lenet5-mnist"
EXTENSIONS = {
    "binary_tensor_data",
    "classification",
    "statistics",
    "model_configuration",
    "model_repository",
    "parameters",
    "generate",
    "trace",
    "logging",
}


class Reader(triton_aio.InferenceServerClient):  # type: ignore[misc]  # untyped
    """Triton's client that awaits, and reads every answer.

    Its own `is_model_ready` looks at the status alone. A body that comes after its head, as it may, would
    be left unread then, and its connection open when the client is closed.
    """

    async def _get(self, *args: Any, **options: Any) -> Any:
        response = await super()._get(*args, **options)
        await response.read()
        return response


class Waiting:
    """The client that awaits, with the face of the one that waits."""

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = self._loop.run_until_complete(self._open(address))

    async def _open(self, address: str) -> Reader:
        return Reader(address)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *args, **options: self._loop.run_until_complete(method(*args, **options))

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


@pytest.fixture(params=["waits", "awaits"])
def v2(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    address = server.url.removeprefix("http://")
    client = triton.InferenceServerClient(address) if request.param == "waits" else Waiting(address)
    yield client
    client.close()


def given(name: str, array: np.ndarray, datatype: str, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def digits(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 1), dtype=np.uint8)


def test_health_and_metadata(v2: Any) -> None:
    assert v2.is_server_live()
    assert v2.is_server_ready()
    assert set(v2.get_server_metadata()["extensions"]) == EXTENSIONS
    for name, version in ((DIGIT, ""), (DIGIT, "1"), (DIGIT, "champion"), ("mnist", "")):
        assert v2.is_model_ready(name, version)
        metadata = v2.get_model_metadata(name, version)
        assert metadata["name"] == name
        assert metadata["versions"] == ["1"]
        (image,), (probabilities,) = metadata["inputs"], metadata["outputs"]
        assert image == {"name": "image", "datatype": "UINT8", "shape": [-1, SIDE, SIDE, 1]}
        assert probabilities == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}
        config = v2.get_model_config(name, version)
        assert config["max_batch_size"] == MAX_BATCH
        assert config["input"] == [{"name": "image", "data_type": "TYPE_UINT8", "dims": [SIDE, SIDE, 1]}]
    for name, version in (("nothing", ""), (DIGIT, "2"), (DIGIT, "01"), (DIGIT, "challenger")):
        assert not v2.is_model_ready(name, version)


def test_repository(v2: Any) -> None:
    index = v2.get_model_repository_index()
    assert {"name": DIGIT, "version": "1", "state": "READY", "reason": ""} in index
    assert {"name": "mnist", "version": "1", "state": "READY", "reason": ""} in index
    (refused,) = (
        entry for entry in index if entry["name"] == "linear_regression-diabetes" and entry["version"] == "2"
    )
    assert refused["state"] == "UNAVAILABLE"
    assert refused["reason"] == "mse 9000 is not below 3500"
    for change in (v2.load_model, v2.unload_model):
        with pytest.raises(InferenceServerException, match=r"\[403\].*zoo promote"):
            change(DIGIT)
        with pytest.raises(InferenceServerException, match=r"\[404\]"):
            change("nothing")


def test_statistics(v2: Any) -> None:
    for name, version in ((DIGIT, ""), (DIGIT, "1"), ("mnist", "champion")):
        (entry,) = v2.get_inference_statistics(name, version)["model_stats"]
        assert (entry["name"], entry["version"]) == (name, "1")
        assert entry["inference_stats"]["success"].keys() == {"count", "ns"}
    everything = {(e["name"], e["version"]) for e in v2.get_inference_statistics()["model_stats"]}
    assert (DIGIT, "1") in everything
    assert ("linear_regression-diabetes", "2") not in everything
    with pytest.raises(InferenceServerException, match=r"\[404\]"):
        v2.get_inference_statistics("nothing")


def test_settings(v2: Any) -> None:
    assert v2.get_trace_settings()["trace_level"] == ["OFF"]
    assert v2.get_trace_settings(DIGIT)["trace_level"] == ["OFF"]
    assert v2.get_log_settings()["log_error"] is True
    for change in (
        lambda: v2.update_trace_settings(settings={"trace_rate": "1"}),
        lambda: v2.update_trace_settings(DIGIT, {"trace_rate": "1"}),
        lambda: v2.update_log_settings({"log_verbose_level": 1}),
    ):
        with pytest.raises(InferenceServerException, match=r"\[403\]"):
            change()
    with pytest.raises(InferenceServerException, match=r"\[404\]"):
        v2.get_trace_settings("nothing")
    with pytest.raises(InferenceServerException, match=r"\[404\]"):
        v2.update_trace_settings("nothing", {"trace_rate": "1"})


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
def test_infer(v2: Any, coding: str | None, binary_in: bool, binary_out: bool) -> None:
    images = digits(40)
    result = v2.infer(
        DIGIT,
        [given("image", images, "UINT8", binary_in)],
        outputs=[triton.InferRequestedOutput("probabilities", binary_data=binary_out)],
        request_id="mine",
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    response = result.get_response()
    assert response["id"] == "mine"
    assert (response["model_name"], response["model_version"]) == (DIGIT, "1")
    assert set(response["parameters"]) == LINEAGE
    assert response["parameters"]["model"] == DIGIT
    (output,) = response["outputs"]
    assert ("data" in output) != binary_out
    probabilities = result.as_numpy("probabilities")
    assert probabilities.shape == (40, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    again = v2.infer("mnist", [given("image", images, "UINT8")], model_version="champion")
    np.testing.assert_allclose(again.as_numpy("probabilities"), probabilities, rtol=1e-6)
    assert again.get_response()["parameters"]["model"] == DIGIT


def test_classification(v2: Any) -> None:
    images = given("image", digits(3), "UINT8")
    scores = v2.infer(DIGIT, [images]).as_numpy("probabilities")
    for binary in (True, False):
        wanted = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=4)
        classes = v2.infer(DIGIT, [images], outputs=[wanted]).as_numpy("probabilities")
        assert classes.shape == (3, 4)
        for row, expected in zip(classes, scores, strict=True):
            parts = [(c.decode() if isinstance(c, bytes) else c).split(":") for c in row]
            assert [int(index) for _, index, _ in parts] == np.argsort(-expected)[:4].tolist()
            assert [label for *_, label in parts] == [index for _, index, _ in parts]
            assert [float(score) for score, *_ in parts] == pytest.approx(
                np.sort(expected)[::-1][:4].tolist()
            )


def test_a_deadline_in_microseconds(v2: Any) -> None:
    with pytest.raises(InferenceServerException, match=r"\[504\]"):
        v2.infer(DIGIT, [given("image", digits(1), "UINT8")], timeout=1)
    assert (
        v2.infer(DIGIT, [given("image", digits(1), "UINT8")], timeout=10_000_000)
        .as_numpy("probabilities")
        .size
    )


def test_texts(v2: Any) -> None:
    prompts = np.array([b"abc", b"f"], object)
    for binary in (True, False):
        result = v2.infer(
            "rnn-letters",
            [given("text_input", prompts, "BYTES", binary)],
            outputs=[triton.InferRequestedOutput("text_output", binary_data=binary)],
            parameters={"max_tokens": 4, "temperature": 0.0},
        )
        texts = result.as_numpy("text_output")
        assert [t.decode() if isinstance(t, bytes) else t for t in texts] == ["defg", "ghij"]
        assert result.get_response()["parameters"]["model"] == "rnn-letters"
    echo = v2.infer(
        "transformer-echo", [given("text_input", np.array([b"one two", b"six"], object), "BYTES")]
    )
    assert echo.as_numpy("text_output").tolist() == [b"one two", b"six"]


def test_many_at_once(server: Server) -> None:
    """`async_infer` of the client that waits, from several connections."""
    with triton.InferenceServerClient(server.url.removeprefix("http://"), concurrency=4) as client:
        batches = [digits(count) for count in range(1, 9)]
        asked = [client.async_infer(DIGIT, [given("image", batch, "UINT8")]) for batch in batches]
        assert [len(one.get_result().as_numpy("probabilities")) for one in asked] == list(range(1, 9))
