"""torch module -> ONNX graph, with the parity check that cannot be skipped.

One-shot kinds (rows, images) take the plain route: `torch.onnx.export` with dynamo and a named batch
axis. Kinds with state or several graphs will add their routes here, each with its reason.
"""

import io
import logging
import warnings
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from zoo.errors import ExportError
from zoo.tasks import Arrays, Run, Task

OPSET = 20  # every operator the zoo needs, and still read by ONNX Runtime 1.17 and browsers
PARITY_BATCHES = (1, 2, 7, 64)
PARITY_TOLERANCE = 1e-5  # float32 reorderings give 1e-6 or less


def export(module: nn.Module, task: Task) -> bytes:
    """The graph of a module in evaluation mode; `ExportError` where the ONNX checker refuses it."""
    # Example sizes must be at least 2: an axis of 1 would be baked into the graph.
    inputs = tuple(torch.from_numpy(array) for array in task.example_inputs(2).values())
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program: Any = torch.onnx.export(
            module,
            inputs,
            input_names=list(task.inputs),
            output_names=list(task.outputs),
            dynamic_shapes=tuple({0: batch} for _ in inputs),
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


def parity(module: nn.Module, run: Run, task: Task, split: Arrays) -> float:
    """Largest deviation of a run from its module over all batch sizes and outputs, on a split's inputs.

    Relative to max(1, |torch|); not a number where an output is none. `ExportError` where the shapes differ.
    """
    deviations = []
    for size in PARITY_BATCHES:
        inputs = examples(task, split, size)
        with torch.no_grad():
            expected = module(*(torch.from_numpy(array) for array in inputs.values()))
        outputs = run(inputs)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for name, tensor in zip(task.outputs, expected, strict=True):
            reference = tensor.numpy()
            if outputs[name].shape != reference.shape:
                raise ExportError(
                    f"{name} has shape {outputs[name].shape} at batch {size}, not {reference.shape}"
                )
            deviation = np.abs(outputs[name] - reference) / np.maximum(1, np.abs(reference))
            deviations.append(deviation.max())
    return float(np.max(deviations))  # unlike Python's `max`, not a number if one of them is not


def examples(task: Task, split: Arrays, size: int) -> Arrays:
    """`size` rows of real inputs, repeated where there are too few, in the graph's number formats.

    The task's own where the split has none, as a generator's are drawn and not measured.
    """
    own = task.example_inputs(size)
    if not set(task.inputs) <= set(split):
        return own
    return {
        name: np.resize(split[name], (size, *split[name].shape[1:])).astype(own[name].dtype)
        for name in task.inputs
    }
