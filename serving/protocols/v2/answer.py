"""Responses to inference requests: JSON with the tensors inside, or as raw bytes after the JSON.

For the formats, see `serving.protocols.v2.request`.
"""

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from serving.catalogue import Served
from serving.exchange import JSON, TENSORS
from serving.protocols.v2.model import Interface
from serving.protocols.v2.request import DTYPES, LENGTH, InferenceRequest
from zoo.tasks import Arrays

JSON_LENGTH = "Inference-Header-Content-Length"
DATATYPES = {dtype: name for name, dtype in DTYPES.items()}

Answer = tuple[bytes, bytes, dict[str, str]]
"""Body, media type and additional headers."""


def answer(
    name: str, served: Served, interface: Interface, request: InferenceRequest, arrays: Arrays
) -> Answer:
    """Returns the response, with the requested model name and the requested outputs."""
    outputs: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for wanted in request.outputs:
        array = arrays[wanted.name]
        if wanted.classes:
            array = classes(array, interface.labels, wanted.classes)
        output: dict[str, Any] = {
            "name": wanted.name,
            "datatype": DATATYPES[array.dtype],
            "shape": array.shape,
        }
        if wanted.binary:
            chunks.append(_bytes(array))
            output["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            output["data"] = array.reshape(-1) if array.dtype.kind != "O" else array.reshape(-1).tolist()
        outputs.append(output)
    fields = {**head(name, served), "parameters": served.lineage_json, "outputs": outputs}
    if request.id:
        fields["id"] = request.id
    body = orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)
    if not chunks:
        return body, JSON, {}
    return b"".join([body, *chunks]), TENSORS, {JSON_LENGTH: str(len(body))}


def head(name: str, served: Served) -> dict[str, Any]:
    """Returns the fields at the beginning of every response of a model."""
    return {"model_name": name, "model_version": served.version}


def classes(scores: NDArray[Any], labels: tuple[str, ...], count: int) -> NDArray[Any]:
    """Returns strings `score:index:label`, [N, min(count, K)], of scores [N, K], the largest first."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    rows = zip(scores, best, strict=True)
    return np.array([[f"{row[k]}:{k}:{labels[k]}" for k in places] for row, places in rows], object)


def _bytes(array: NDArray[Any]) -> bytes:
    if array.dtype.kind != "O":
        return array.tobytes()
    strings = [text.encode() for text in array.reshape(-1)]
    return b"".join(len(text).to_bytes(LENGTH, "little") + text for text in strings)
