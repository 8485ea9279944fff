"""Bundles that agree with their manifests, and do what the service must survive."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_zoo import write_regression

from zoo.bundle import Bundle
from zoo.bundle_files import sha256


def rewritten(made: Bundle, **fields: Any) -> Path:
    """The bundle with other fields in its manifest, and with the digest of its graph."""
    path = made.directory / "manifest.json"
    manifest = json.loads(path.read_text()) | fields
    manifest["files"]["model.onnx"] = sha256(made.graph_path)
    path.write_text(json.dumps(manifest))
    return made.directory


def changed(made: Bundle, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> Path:
    """The bundle of a regression to whose answer the nodes' `nothing` is added, with a right manifest."""
    model = onnx.load(made.graph_path)
    model.graph.node[-1].output[0] = "before"
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model.graph.node.extend([*nodes, helper.make_node("Add", ["before", "nothing"], ["value"])])
    made.graph_path.write_bytes(model.SerializeToString())
    return rewritten(made)


def endless(directory: Path, name: str = "linear_regression-diabetes") -> Path:
    """Its graph computes for ever."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c_out"]), helper.make_node("Identity", ["v"], ["v_out"])],
        "body",
        [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, [])],
        [info("c_out", TensorProto.BOOL, []), info("v_out", TensorProto.FLOAT, [])],
    )
    loop = helper.make_node("Loop", ["times", "yes", "zero"], ["nothing"], body=body)
    constants = {"times": np.array(2**62), "yes": np.array(True), "zero": np.array(0, np.float32)}
    return changed(write_regression(directory, name=name), [loop], constants)


def greedy(directory: Path, folded: bool) -> Path:
    """Twelve gigabytes: as the session is opened, where ONNX Runtime can compute them then, or in a run."""
    constants = {"size": np.array([3 << 30])}
    if folded:
        large = helper.make_node("ConstantOfShape", ["size"], ["large"])
    else:
        large = helper.make_node("Expand", ["one", "size"], ["large"])
    one = helper.make_node("ReduceMin", ["before"], ["one"], keepdims=0)
    least = helper.make_node("ReduceMin", ["large"], ["nothing"], keepdims=0)
    return changed(write_regression(directory), [one, large, least], constants)


def unlisted(directory: Path) -> Path:
    """Its graph has an output, a list of tensors, for which V2 has no type."""
    made = write_regression(directory)
    model = onnx.load(made.graph_path)
    model.graph.node.append(helper.make_node("SequenceConstruct", ["value"], ["values"]))
    model.graph.output.append(helper.make_tensor_sequence_value_info("values", TensorProto.FLOAT, None))
    made.graph_path.write_bytes(model.SerializeToString())
    return rewritten(made)
