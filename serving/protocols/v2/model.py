"""Description of a version in the Open Inference Protocol: its tensors, limits and configuration.

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
LONGEST_AXIS = 65_536  # maximum length of a varying axis other than the batch axis
KINDS = {"CPUExecutionProvider": "KIND_CPU", "CUDAExecutionProvider": "KIND_GPU"}
TYPES = {"BYTES": "TYPE_STRING"}  # every other data type is called TYPE_<datatype>


@dataclass(frozen=True)
class Input:
    """An input tensor and the constraints on its values."""

    tensor: Tensor
    axis: Axis | None
    """Varying axis other than the batch axis, or None."""
    choices: int | None
    """Number of valid indices if the values are indices, otherwise None."""


@dataclass(frozen=True)
class Interface:
    """Inputs, outputs and limits of a version, as a client sees them."""

    inputs: dict[str, Input]
    outputs: dict[str, Tensor]
    max_batch: int
    labels: tuple[str, ...]
    """Labels of the columns of the output `SCORES`; empty if there is no such output."""
    writes: bool
    """True if the version takes texts and generates texts, in many runs."""

    @classmethod
    def of(cls, served: Served) -> "Interface":
        """Returns the interface of a loaded version."""
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
        """Returns the model's metadata, with the requested name."""
        return {
            "name": name,
            "versions": versions,
            "platform": PLATFORM,
            "inputs": [_described(i.tensor) for i in self.inputs.values()],
            "outputs": [_described(output) for output in self.outputs.values()],
        }

    def config(self, name: str, served: Served) -> dict[str, Any]:
        """Returns the model's configuration in Triton's format; `dims` have no batch axis."""
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
