"""Export of a torch module to an ONNX graph, and the mandatory parity check.

Tasks that answer in one run (rows, images, windows of series) use `torch.onnx.export` with dynamo, a named
batch axis and, if there is one, a named time axis. Recurrent layers become ONNX's own operators (see
`zoo.layers.recurrence`): the exporter would unroll an Elman layer for one fixed length. A recurrent language
model has its state as an input and an output of the graph, so that the next token costs one step whatever
the length of the text before it; the same graph reads a prompt in one run. A decoder's graph is built node
by node (see `training.llama_graph`): an exported one would copy its whole cache for every token.
"""

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from training import llama_graph
from zoo.errors import ExportError
from zoo.models.llama import Llama, LlamaStep
from zoo.tasks import Arrays, Run, Task
from zoo.tasks.base import Signature
from zoo.tasks.language_modelling import LanguageModelling

OPSET = 20  # has every operator that the zoo needs; ONNX Runtime 1.17 and browsers still read it
LONGEST = 1 << 20  # maximum length of a dynamic axis
PARITY_BATCHES = (1, 2, 7, 64)
PARITY_TOLERANCE = 1e-5  # float32 rounding gives 1e-6 or less in most networks
# Fifty layers have a larger rounding error, and a graph whose normalisation is folded into convolutions has a
# larger one than torch: three times as large was seen. So the graph's error may be four times torch's error,
# but at most MOST_TOLERANCE.
ROUNDINGS, MOST_TOLERANCE = 4, 1e-4


@dataclass(frozen=True)
class Parity:
    """Deviation of a graph from its module's exact answers, which are computed in float64.

    Deviations are the maximum over all batch sizes and outputs, relative to max(1, |exact|).
    """

    deviation: float
    """Deviation of the graph; NaN if one of its answers is NaN."""
    rounding: float
    """Deviation of the module itself in float32."""

    @property
    def tolerance(self) -> float:
        """Maximum deviation that the graph may have."""
        return max(PARITY_TOLERANCE, min(ROUNDINGS * self.rounding, MOST_TOLERANCE))

    @property
    def holds(self) -> bool:
        """True if the graph's deviation is within the tolerance."""
        return self.deviation <= self.tolerance


def export(module: nn.Module, task: Task) -> dict[str, bytes]:
    """Returns the graphs, by name, of a module in evaluation mode.

    For a task with several graphs, the module is a `ModuleDict` of one module each. Raises `ExportError` if
    the ONNX checker rejects a graph.
    """
    if isinstance(module, LlamaStep):
        return {"model": _decoder(module.llama, task)}
    return {
        signature.name: _export(_part(module, signature), task, signature) for signature in task.signatures()
    }


def _decoder(llama: Llama, task: Task) -> bytes:
    assert isinstance(task, LanguageModelling)
    assert task.places is not None
    weights = {name: weight.numpy() for name, weight in llama.state_dict().items()}
    try:
        return llama_graph.build(llama.config, weights, "fp32", task.places)
    except ValueError as error:
        raise ExportError(f"the decoder has no graph: {error}") from error


def _part(module: nn.Module, signature: Signature) -> nn.Module:
    return module[signature.name] if isinstance(module, nn.ModuleDict) else module


def _export(module: nn.Module, task: Task, signature: Signature) -> bytes:
    # Example sizes must be at least 2: an axis of 1 would be baked into the graph.
    examples = task.examples_for(signature, 2)
    inputs = tuple(torch.from_numpy(examples[name]) for name in signature.inputs)
    batch = torch.export.Dim("batch", min=1, max=LONGEST)
    varying = task.varying_axes()
    lengths = {axis.length: torch.export.Dim(axis.length, min=1, max=LONGEST) for axis in varying.values()}
    axes: list[dict[int, Any]] = [{0: batch} for _ in inputs]
    for name, sizes in zip(signature.inputs, axes, strict=True):
        if (axis := varying.get(name)) is not None:
            length = lengths[axis.length]
            sizes[axis.place] = axis.multiple * length if axis.multiple > 1 else length
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecation warnings of the exporter itself
        program: Any = torch.onnx.export(
            module,
            inputs,
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
            dynamic_shapes=tuple(axes),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    buffer = io.BytesIO()
    onnx.save(program.model_proto, buffer)
    graph = buffer.getvalue()
    try:
        onnx.checker.check_model(graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX checker refuses the graph: {error}") from error
    return graph


def parity(module: nn.Module, run: Run, task: Task, split: Arrays) -> Parity:
    """Compares a run with its module at several batch sizes and lengths, on a split's inputs.

    Raises `ExportError` if the shapes differ.
    """
    exact_run, own_run = as_run(copy.deepcopy(module).double(), task, torch.float64), as_run(module, task)
    deviations, roundings = [], []
    for inputs, sizes in _parity_inputs(task, split):
        exact, own = exact_run(inputs), own_run(inputs)
        roundings += [_deviation(own[name], exact[name]) for name in exact]
        for size in sizes:  # the first rows each time: their answers must not depend on the other rows
            outputs = run({name: array[:size] for name, array in inputs.items()})
            for name in exact:
                answer, expected = outputs[name], exact[name][:size]
                if answer.shape != expected.shape:
                    raise ExportError(
                        f"{name} has shape {answer.shape} at batch {size}, not {expected.shape}"
                    )
                deviations.append(_deviation(answer, expected))
    # Unlike Python's `max`, NumPy's returns NaN if any value is NaN.
    return Parity(float(np.max(deviations)), float(np.max(roundings)))


def same_tokens(module: nn.Module, run: Run, task: Task, split: Arrays) -> bool:
    """Returns True if greedy decoding gives the same tokens with run and module, or if there are none."""
    written, expected = (task.transcripts(each, split) for each in (run, as_run(module, task)))
    return written is None or expected is None or np.array_equal(written, expected)


def _parity_inputs(task: Task, split: Arrays) -> Iterator[tuple[Arrays, tuple[int, ...]]]:
    """Yields inputs with the batch sizes to compare: as they are, and with varying axes at other lengths."""
    for signature in task.signatures():
        inputs = examples(task, signature, split, max(PARITY_BATCHES))
        yield inputs, PARITY_BATCHES
        varying = {name: axis for name, axis in task.varying_axes().items() if name in inputs}
        for changed in dict.fromkeys(axis.length for axis in varying.values()):
            alike = {name: axis for name, axis in varying.items() if axis.length == changed}
            name, axis = next(iter(alike.items()))
            usual = inputs[name].shape[axis.place]
            for length in (axis.least, 2 * usual):
                # The last positions; if more are needed than there are, all of them twice.
                places = np.arange(usual - length, usual) % usual
                other = {name: inputs[name].take(places, axis.place) for name, axis in alike.items()}
                yield inputs | other, PARITY_BATCHES[1:2]


def _deviation(answer: NDArray[Any], exact: NDArray[Any]) -> float:
    return float((np.abs(answer - exact) / np.maximum(1, np.abs(exact))).max(initial=0))


def as_run(module: nn.Module, task: Task, floating: torch.dtype = torch.float32) -> Run:
    """Wraps an exportable module as a `Run`, like its graph; `floating` is the dtype of its weights."""

    @torch.no_grad()
    def run(inputs: Arrays) -> Arrays:
        fitting = [s for s in task.signatures() if inputs.keys() >= set(s.inputs)]
        signature = max(fitting, key=lambda s: len(s.inputs))
        tensors = [torch.from_numpy(inputs[name]) for name in signature.inputs]
        answer = _part(module, signature)(*(t.to(floating) if t.is_floating_point() else t for t in tensors))
        answers = answer if isinstance(answer, tuple) else (answer,)
        return {name: a.numpy() for name, a in zip(signature.outputs, answers, strict=True)}

    return run


def examples(task: Task, signature: Signature, split: Arrays, size: int) -> Arrays:
    """Returns `size` rows of a split as inputs of a graph, in the graph's dtypes; repeats rows if too few.

    Returns the task's own examples if the split lacks an input, such as a generator's random latents.
    """
    own = task.examples_for(signature, size)
    if not set(signature.inputs) <= set(split):
        return own
    return {
        name: np.resize(split[name], (size, *split[name].shape[1:])).astype(own[name].dtype)
        for name in signature.inputs
    }
