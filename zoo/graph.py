"""An ONNX graph opened with ONNX Runtime: the one way that training and serving execute a model."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from zoo.errors import BundleError, ProviderUnavailable
from zoo.tasks.base import Arrays

PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    # An exhaustive search for every new batch shape costs seconds a shape. TF32 keeps 10 bits of a number's
    # fraction, where the answers that a bundle was checked with have 23.
    "cuda": ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}),
}
"""ONNX Runtime's execution provider for each device name, and its options."""


NOWHERE = f"{os.devnull}/none"
"""A folder that cannot be: ONNX Runtime would look for other files of a graph in the working directory, where
the graph is given as bytes."""


class Graph:
    """A `Run` over one ONNX graph. Thread-safe."""

    def __init__(self, source: Path | bytes, device: str = "cpu", threads: int = 1) -> None:
        """Opens a graph file or its bytes on `device` with `threads` CPU threads.

        Bytes have to be all of the graph: no tensor of theirs may be in another file. Raises
        `ProviderUnavailable` instead of falling back, `BundleError` where the graph is invalid.
        """
        provider, settings = PROVIDERS[device]
        if provider not in ort.get_available_providers():
            raise ProviderUnavailable(
                f"device {device!r} needs ONNX Runtime's {provider}, which is not installed; "
                "install onnxruntime-gpu in place of onnxruntime, or choose the device cpu"
            )
        if device == "cuda":
            ort.preload_dlls()  # CUDA's libraries, where they are installed as Python packages
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # fatal ones alone: errors are raised, and may be those of requests
        # Several models share the cores: a spinning idle session slows its neighbours.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if isinstance(source, bytes):
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
        try:
            model = source if isinstance(source, bytes) else str(source)
            self.session = ort.InferenceSession(model, options, providers=[(provider, settings)])
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise BundleError(_why_not_opened(error)) from error
        self.session.disable_fallback()
        self.session._model_bytes = None  # kept for a fallback, as long as the session
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
        """Outputs by name for inputs by name.

        ONNX Runtime keeps the memory of a run for the next ones, unless the run is to `shrink` what it keeps.
        """
        options = self._shrinking if shrink else self._options
        return dict(zip(self._output_names, self._run(self._output_names, inputs, options), strict=True))

    def end_runs(self) -> None:
        """Makes the runs of this moment fail after the node that they are at, and all runs after them."""
        self._options.terminate = self._shrinking.terminate = True

    @property
    def ended(self) -> bool:
        """True once `end_runs` was called."""
        return bool(self._options.terminate)


class GraphSet:
    """A `Run` over several graphs: the one that takes inputs of the given names. Thread-safe."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        """Graphs of one provider, no two of which take inputs of the same names."""
        self._graphs = {frozenset(name for name, _, _ in graph.inputs): graph for graph in graphs}
        self.provider = graphs[0].provider
        self.inputs = list({i[0]: i for graph in graphs for i in graph.inputs}.values())
        self.outputs = list({o[0]: o for graph in graphs for o in graph.outputs}.values())

    def __call__(self, inputs: Arrays, *, shrink: bool = False) -> Arrays:
        """Outputs by name for inputs by name; `shrink` has ONNX Runtime give the run's memory back."""
        return self._graphs[frozenset(inputs)](inputs, shrink=shrink)

    def end_runs(self) -> None:
        """Makes the runs of this moment fail, and all runs after them."""
        for graph in self._graphs.values():
            graph.end_runs()

    @property
    def ended(self) -> bool:
        """True once `end_runs` was called."""
        return any(graph.ended for graph in self._graphs.values())


def _why_not_opened(error: Exception) -> str:
    """ONNX Runtime's own text is in the error's cause: it may say where files lie."""
    if "external data" in str(error).lower():
        return "the graph has tensors in a file that the manifest does not name; all have to be in the graph"
    return "ONNX Runtime cannot open the graph"


def open_graphs(
    sources: Iterable[Path] | Iterable[bytes], device: str = "cpu", threads: int = 1
) -> Graph | GraphSet:
    """One graph or several; errors as of `Graph`."""
    graphs = [Graph(source, device, threads) for source in sources]
    return graphs[0] if len(graphs) == 1 else GraphSet(graphs)
