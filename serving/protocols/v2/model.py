"""A version as the Open Inference Protocol describes it: its tensors, its limits, its configuration.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_configuration.md
"""

from dataclasses import dataclass
from typing import Any

from serving.catalogue import Served, Tensor, tensor
from zoo.tasks.base import Axis

TEXT_INPUT, TEXT_OUTPUT = "text_input", "text_output"
SCORES = "probabilities"  # the output that `classification` ranks
PLATFORM, BACKEND = "onnxruntime_onnx", "onnxruntime"
LONGEST_AXIS = 65_536  # of axes of any length, but for the batch's
KINDS = {"CPUExecutionProvider": "KIND_CPU", "CUDAExecutionProvider": "KIND_GPU"}
TYPES = {"BYTES": "TYPE_STRING"}  # every other data type is called TYPE_<datatype>


@dataclass(frozen=True)
class Input:
    """An input and what its values have to keep to."""

    tensor: Tensor
    axis: Axis | None
    """The axis of any length, other than the batch's, where there is one."""
    choices: int | None
    """Where values are indices: how many there are to choose from."""


@dataclass(frozen=True)
class Interface:
    """What a client sees of a version."""

    inputs: dict[str, Input]
    outputs: dict[str, Tensor]
    max_batch: int
    labels: tuple[str, ...]
    """Of the classes that SCORES has a column for each; empty where there is no such output."""
    writes: bool
    """Whether it takes texts and writes others, in many runs."""

    @classmethod
    def of(cls, served: Served) -> "Interface":
        """The interface of a loaded version."""
        task = served.task
        if task.generate is not None:
            text_input, text_output = (
                Tensor(name=name, datatype="BYTES", shape=[-1]) for name in (TEXT_INPUT, TEXT_OUTPUT)
            )
            inputs = {TEXT_INPUT: Input(text_input, None, None)}
            return cls(inputs, {TEXT_OUTPUT: text_output}, task.max_batch, (), True)
        axes, choices = task.varying_axes(), task.choices()
        graph = served.loaded.graph
        outputs = {output[0]: tensor(*output) for output in graph.outputs}
        labels = getattr(task, "labels", ()) if SCORES in outputs else ()
        inputs = {i[0]: Input(tensor(*i), axes.get(i[0]), choices.get(i[0])) for i in graph.inputs}
        return cls(inputs, outputs, task.max_batch, labels, False)

    def metadata(self, name: str, versions: list[str]) -> dict[str, Any]:
        """The model's metadata, under the name that was asked for."""
        return {
            "name": name,
            "versions": versions,
            "platform": PLATFORM,
            "inputs": [_described(i.tensor) for i in self.inputs.values()],
            "outputs": [_described(output) for output in self.outputs.values()],
        }

    def config(self, name: str, served: Served) -> dict[str, Any]:
        """The model's configuration in Triton's form; `dims` have no batch axis."""
        kind = KINDS[served.loaded.graph.provider]
        return {
            "name": name,
            "platform": PLATFORM,
            "backend": BACKEND,
            "max_batch_size": self.max_batch,
            "input": [_configured(i.tensor) for i in self.inputs.values()],
            "output": [_configured(output) for output in self.outputs.values()],
            "instance_group": [{"name": name, "kind": kind, "count": 1}],
            "model_transaction_policy": {"decoupled": False},
        }


def _described(described: Tensor) -> dict[str, Any]:
    return {"name": described.name, "datatype": described.datatype, "shape": described.shape}


def _configured(described: Tensor) -> dict[str, Any]:
    data_type = TYPES.get(described.datatype, f"TYPE_{described.datatype}")
    return {"name": described.name, "data_type": data_type, "dims": described.shape[1:]}
