"""ONNX graphs opened with ONNX Runtime: training and serving both execute exported models this way."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from zoo.errors import BundleError, ProviderUnavailable
from zoo.tasks.base import Arrays

PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    # An exhaustive search for every new batch shape takes seconds per shape. TF32 keeps 10 bits of a number's
    # fraction; the answers that a bundle was checked with have 23.
    "cuda": ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}),
}
"""ONNX Runtime's execution provider and its options, by device name."""


NOWHERE = f"{os.devnull}/none"
"""A folder that cannot exist. Without it, ONNX Runtime would look in the working directory for other files of
a graph that is given as bytes."""


class Graph:
    """A `Run` over one ONNX graph. Thread-safe."""

    def __init__(self, source: Path | bytes, device: str = "cpu", threads: int = 1) -> None:
        """Opens a graph file or its bytes on `device` with `threads` CPU threads.

        Bytes have to contain the whole graph: no tensor may be in another file. Raises
        `ProviderUnavailable` instead of falling back, and `BundleError` if the graph is invalid.
        """
        provider, settings = PROVIDERS[device]
        if provider not in ort.get_available_providers():
            raise ProviderUnavailable(
                f"device {device!r} needs ONNX Runtime's {provider}, which is not installed; "
                "install onnxruntime-gpu in place of onnxruntime, or choose the device cpu"
            )
        if device == "cuda":
            ort.preload_dlls()  # CUDA's libraries, if installed as Python packages
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # fatal only: errors are raised, and may be due to requests
        # Several models share the cores: an idle session that spins would slow the others.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if isinstance(source, bytes):
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
        try:
            model = source if isinstance(source, bytes) else str(source)
            self.session = ort.InferenceSession(model, options, providers=[(provider, settings)])
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise BundleError(_why_not_opened(error)) from error
        self.session.disable_fallback()
        self.session._model_bytes = None  # frees the bytes, which ONNX Runtime keeps for a fallback
        self.provider: str = self.session.get_providers()[0]
        if self.provider != provider:
            raise ProviderUnavailable(f"the graph was opened with {self.provider} instead of {provider}")
        self.inputs = [(i.name, i.type, i.shape) for i in self.session.get_inputs()]
        self.outputs = [(o.name, o.type, o.shape) for o in self.session.get_outputs()]
        self._run: Callable[..., list[Any]] = self.session.run
        self._options, self._shrinking = ort.RunOptions(), ort.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._output_names = [name for name, _, _ in self.outputs]

    def __call__(self, inputs: Arrays, *, shrink: bool = False) -> Arrays:
        """Maps inputs by name to outputs by name.

        ONNX Runtime keeps the memory of a run for later runs; with `shrink`, it frees memory after this one.
        """
        options = self._shrinking if shrink else self._options
        return dict(zip(self._output_names, self._run(self._output_names, inputs, options), strict=True))

    def end_runs(self) -> None:
        """Makes the active runs fail after their current node, and all later runs."""
        self._options.terminate = self._shrinking.terminate = True

    @property
    def ended(self) -> bool:
        """True once `end_runs` was called."""
        return bool(self._options.terminate)


class GraphSet:
    """A `Run` over several graphs: each call runs the graph whose input names match. Thread-safe."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        """Combines graphs of one provider; no two may have the same set of input names."""
        self._graphs = {frozenset(name for name, _, _ in graph.inputs): graph for graph in graphs}
        self.provider = graphs[0].provider
        self.inputs = list({i[0]: i for graph in graphs for i in graph.inputs}.values())
        self.outputs = list({o[0]: o for graph in graphs for o in graph.outputs}.values())

    def __call__(self, inputs: Arrays, *, shrink: bool = False) -> Arrays:
        """Maps inputs by name to outputs by name; `shrink` as in `Graph`."""
        return self._graphs[frozenset(inputs)](inputs, shrink=shrink)

    def end_runs(self) -> None:
        """Makes the active runs fail, and all later runs."""
        for graph in self._graphs.values():
            graph.end_runs()

    @property
    def ended(self) -> bool:
        """True once `end_runs` was called."""
        return any(graph.ended for graph in self._graphs.values())


def _why_not_opened(error: Exception) -> str:
    """Returns a message without ONNX Runtime's own text, which may contain paths; the cause keeps it."""
    if "external data" in str(error).lower():
        return "the graph has tensors in a file that the manifest does not name; all have to be in the graph"
    return "ONNX Runtime cannot open the graph"


def open_graphs(
    sources: Iterable[Path] | Iterable[bytes], device: str = "cpu", threads: int = 1
) -> Graph | GraphSet:
    """Opens one graph, or several as a `GraphSet`; errors as in `Graph`."""
    graphs = [Graph(source, device, threads) for source in sources]
    return graphs[0] if len(graphs) == 1 else GraphSet(graphs)
