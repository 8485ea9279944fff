"""A graph on a GPU, as far as a machine without one can tell: what ONNX Runtime is asked for."""

from typing import Any

import onnxruntime as ort
import pytest

from serving.engine import IDENTITY
from zoo.errors import ProviderUnavailable
from zoo.graph import Graph

CUDA = "CUDAExecutionProvider"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a session that claims to be on a GPU is opened with, in the order in which it is asked for."""
    asked: dict[str, Any] = {}
    opened = ort.InferenceSession

    def session(model: bytes, options: ort.SessionOptions, providers: list[Any]) -> ort.InferenceSession:
        asked["providers"] = providers
        session = opened(model, options, providers=["CPUExecutionProvider"])
        monkeypatch.setattr(session, "get_providers", lambda: [asked.get("opened with", CUDA)])
        return session

    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA])
    monkeypatch.setattr(ort, "preload_dlls", lambda: asked.setdefault("libraries", "loaded"))
    monkeypatch.setattr(ort, "InferenceSession", session)
    return asked


def test_a_gpu_computes_in_float32(asked: dict[str, Any]) -> None:
    assert Graph(IDENTITY, "cuda").provider == CUDA
    ((provider, options),) = asked["providers"]
    assert provider == CUDA
    assert options["use_tf32"] == "0"


def test_cuda_is_loaded_from_its_packages_before_it_is_needed(asked: dict[str, Any]) -> None:
    Graph(IDENTITY, "cuda")
    assert list(asked) == ["libraries", "providers"]


def test_a_graph_that_is_not_on_the_gpu_is_refused(asked: dict[str, Any]) -> None:
    asked["opened with"] = "CPUExecutionProvider"
    with pytest.raises(ProviderUnavailable, match="instead of CUDA"):
        Graph(IDENTITY, "cuda")
