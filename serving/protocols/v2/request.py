"""Parsing of inference requests: JSON with the tensors inside, or as raw bytes after the JSON, to arrays.

Everything is checked before a graph runs; an invalid part raises `InvalidInput`, which names the part.
Raw bytes: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md,
classification: .../extension_classification.md.
"""

import math
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from serving.json_size import MAX_VALUES, JsonSize, json_size, node_count
from serving.memory import Body
from serving.problem import Problem
from serving.protocols.byte_order_mark import without_mark
from serving.protocols.v2.model import LONGEST_AXIS, SCORES, Input, Interface
from zoo.errors import InvalidInput
from zoo.tasks import Arrays

T = TypeVar("T")

DTYPES = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype("O"),
}
JSON_TYPES: dict[str, set[type]] = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}, "O": {str}}
"""Python types that JSON data may contain, by the kind of NumPy data type."""
WORDS = {dict: "an object", list: "a list", str: "a string", int: "an integer", bool: "true or false"}
FEW_LISTS = 4096
"""Maximum number of lists and objects in a request, not counting those for numbers."""
LISTS_PER_DIGIT = 4
"""Lists allowed per digit: a number may be alone in its list, which may be alone in another, and so on."""
MAX_LISTS = 1 << 20
"""Maximum number of lists and objects in a request of texts; counts brackets and braces in the texts too."""
LENGTH = 4  # bytes of the little-endian length before each string
MOST_DIGITS = 18  # in the number of a header
SHOWN = 64  # maximum characters of a client's text in an error message


@dataclass(frozen=True)
class Output:
    """A requested output."""

    name: str
    binary: bool
    classes: int
    """Number of likeliest classes to return instead of all scores; 0 returns the tensor itself."""


@dataclass(frozen=True)
class InferenceRequest:
    """A valid inference request."""

    inputs: Arrays
    outputs: list[Output]
    id: str | None
    parameters: dict[str, Any]


class Binary:
    """Reader of the raw bytes after the JSON, from front to back."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._place = 0

    def take(self, name: str, size: int) -> memoryview:
        """Returns the next `size` bytes; raises `InvalidInput` if fewer are left."""
        end = self._place + size
        if end > len(self._data):
            raise InvalidInput(
                f"input {name!r}: binary_data_size is {size}; there are {len(self._data) - self._place} bytes"
            )
        taken = self._data[self._place : end]
        self._place = end
        return taken

    def finish(self) -> None:
        """Raises `InvalidInput` if any bytes were not taken."""
        if surplus := len(self._data) - self._place:
            raise InvalidInput(f"{surplus} bytes behind the JSON belong to no input")


def json_length(body: Body, header: bytes | None) -> int:
    """Returns the number of JSON bytes in a body: `Inference-Header-Content-Length`, or all without one."""
    if header is None:
        return len(body)
    if not (header.isdigit() and len(header) <= MOST_DIGITS and int(header) <= len(body)):
        wanted = f"expected a number up to the body's {len(body)} bytes"
        raise Problem(400, "bad_header", f"Inference-Header-Content-Length: {wanted}")
    return int(header)


def parse(body: Body, length: int, interface: Interface) -> InferenceRequest:
    """Parses a body whose first `length` bytes are JSON; raises `Problem` 400 if the JSON is malformed."""
    data = memoryview(body)
    fields = json_object(data[:length])
    parameters = member(fields, "parameters", dict, {})
    if node_count(parameters, MAX_VALUES) > MAX_VALUES:
        raise InvalidInput(f"parameters: at most {MAX_VALUES:,} values are read")
    binary = Binary(data[length:])
    inputs = _inputs(member(fields, "inputs", list), interface, binary)
    binary.finish()
    default = member(parameters, "binary_data_output", bool, False)
    outputs = _outputs(member(fields, "outputs", list, []), interface, default)
    return InferenceRequest(inputs, outputs, member(fields, "id", str, ""), parameters)


def require_holdable(size: JsonSize, interface: Interface) -> None:
    """Refuses a JSON text, before it is parsed, with more lists and objects than any request can hold."""
    most = MAX_LISTS if interface.writes else FEW_LISTS + LISTS_PER_DIGIT * size.digits
    if size.lists + size.objects > most:
        raise InvalidInput(f"the body has {size.lists + size.objects:,} lists and objects; that is too many")


def require_few_values(body: Body) -> None:
    """Refuses a body with more than `MAX_VALUES` values, before it is parsed."""
    if (values := json_size(body).values) > MAX_VALUES:
        raise InvalidInput(f"the body has {values:,} values; at most {MAX_VALUES:,} are read here")


def json_object(text: Body | memoryview) -> dict[str, Any]:
    """Parses a JSON object; NaN, Infinity and numbers beyond float64 are malformed."""
    try:
        value = orjson.loads(without_mark(text))
    except orjson.JSONDecodeError as error:
        raise Problem(400, "malformed_json", f"malformed JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInput("the body: expected a JSON object")
    return value


def member(fields: dict[str, Any], name: str, kind: type[T], default: T | None = None) -> T:
    """Returns a field of the given type; `null` means the default, and without a default it is required."""
    value = fields.get(name)
    if value is None:
        if default is None:
            raise InvalidInput(f"{name}: required")
        return default
    if type(value) is not kind:  # not isinstance: a bool is also an int
        raise InvalidInput(f"{name}: expected {WORDS[kind]}")
    return value


def _inputs(given: list[Any], interface: Interface, binary: Binary) -> Arrays:
    arrays: Arrays = {}
    for fields in given:
        if not isinstance(fields, dict):
            raise InvalidInput("inputs: expected a list of objects")
        name = member(fields, "name", str)
        if name not in interface.inputs:
            raise InvalidInput(f"no input {_shown(name)}; the model takes {list(interface.inputs)}")
        if name in arrays:
            raise InvalidInput(f"input {name!r} is given twice")
        arrays[name] = _array(fields, interface.inputs[name], interface.max_batch, binary)
    if missing := interface.inputs.keys() - arrays.keys():
        raise InvalidInput(f"inputs lack {sorted(missing)}")
    if len({len(array) for array in arrays.values()}) > 1:
        raise InvalidInput(f"inputs differ in batch size: { {n: len(a) for n, a in arrays.items()} }")
    return arrays


def _array(fields: dict[str, Any], expected: Input, max_batch: int, binary: Binary) -> NDArray[Any]:
    name, datatype = expected.tensor.name, expected.tensor.datatype
    if (given := member(fields, "datatype", str)) != datatype:
        raise InvalidInput(f"input {name!r} has data type {_shown(given)}; expected {datatype}")
    shape = member(fields, "shape", list)
    _check_shape(shape, expected, max_batch)
    parameters = member(fields, "parameters", dict, {})
    data, size = fields.get("data"), parameters.get("binary_data_size")
    if (data is None) == (size is None):
        raise InvalidInput(f"input {name!r}: give either data or the parameter binary_data_size")
    if size is None:
        array = _from_json(data, shape, name, DTYPES[datatype])
    else:
        if type(size) is not int or size < 0:
            raise InvalidInput(f"input {name!r}: binary_data_size: expected a number of bytes")
        array = _from_bytes(binary.take(name, size), math.prod(shape), name, DTYPES[datatype])
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidInput(
            f"input {name!r} has a value that is not finite, or beyond the range of {datatype}"
        )
    if expected.choices is not None and (array.min() < 0 or array.max() >= expected.choices):
        raise InvalidInput(f"input {name!r}: expected indices from 0 to {expected.choices - 1}")
    return array.reshape(shape)


def _check_shape(shape: list[Any], expected: Input, max_batch: int) -> None:
    name, sizes = expected.tensor.name, expected.tensor.shape
    if any(type(size) is not int for size in shape):
        raise InvalidInput(f"input {name!r}: shape: expected a list of integers")
    if len(shape) != len(sizes) or any(
        given != size for given, size in zip(shape, sizes, strict=True) if size != -1
    ):
        raise InvalidInput(
            f"input {name!r} has shape {str(shape)[:SHOWN]}; expected {sizes}, the batch first"
        )
    if not 1 <= shape[0] <= max_batch:
        raise InvalidInput(
            f"input {name!r}: expected a batch of 1 to {max_batch}, not {str(shape[0])[:SHOWN]}"
        )
    axis = expected.axis
    if axis is None:
        return
    given = shape[axis.place]
    if not axis.least <= given <= LONGEST_AXIS or given % axis.multiple:
        raise InvalidInput(
            f"input {name!r}: axis {axis.place} has length {str(given)[:SHOWN]}; expected a multiple of "
            f"{axis.multiple} from {axis.least} to {LONGEST_AXIS}"
        )


def _from_json(data: Any, shape: list[int], name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    if not isinstance(data, list):
        raise InvalidInput(f"input {name!r}: data: expected a list")
    flat = _flat(data, shape, name)
    allowed = JSON_TYPES[dtype.kind]
    if not allowed.issuperset(map(type, flat)):
        raise InvalidInput(f"input {name!r}: data: expected only {' or '.join(t.__name__ for t in allowed)}")
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        if min(flat) < limits.min or max(flat) > limits.max:
            raise InvalidInput(f"input {name!r}: data: expected integers from {limits.min} to {limits.max}")
    with np.errstate(over="ignore"):  # overflow becomes infinity, which is refused later
        return np.array(flat, dtype)


def _flat(data: list[Any], shape: list[int], name: str) -> list[Any]:
    """Returns the flat values of a list that is flat or nested to the given shape."""
    for depth in range(1, len(shape)):
        if list not in set(map(type, data)):
            break
        wanted = math.prod(shape[:depth])
        if len(data) != wanted or set(map(type, data)) != {list} or len(set(map(len, data))) != 1:
            raise InvalidInput(f"input {name!r}: data is not nested as its shape {shape} says")
        data = list(chain.from_iterable(data))
    if len(data) != math.prod(shape):
        raise InvalidInput(
            f"input {name!r}: data has {len(data)} values; its shape {shape} needs {math.prod(shape)}"
        )
    return data


def _from_bytes(data: memoryview, count: int, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "O":
        return _strings(data, count, name)
    if len(data) != count * dtype.itemsize:
        raise InvalidInput(
            f"input {name!r}: binary_data_size is {len(data)}; its shape needs {count * dtype.itemsize}"
        )
    if dtype.kind == "b" and np.frombuffer(data, np.uint8).max() > 1:
        raise InvalidInput(f"input {name!r}: expected bytes 0 and 1")
    array = np.frombuffer(data, dtype)
    return array if array.flags.aligned else array.copy()


def _strings(data: memoryview, count: int, name: str) -> NDArray[Any]:
    """Decodes [count] strings, each of which follows its length."""
    strings: list[str] = []
    place = 0
    while place < len(data) and len(strings) <= count:
        begin = place + LENGTH
        place = begin + int.from_bytes(data[place:begin], "little")
        if begin > len(data) or place > len(data):
            raise InvalidInput(f"input {name!r}: a string is cut short")
        try:
            strings.append(str(data[begin:place], "utf-8"))
        except UnicodeDecodeError:
            raise InvalidInput(f"input {name!r}: expected strings in UTF-8") from None
    if len(strings) != count:
        given = len(strings) if place == len(data) else f"over {count}"
        raise InvalidInput(f"input {name!r} has {given} strings; its shape needs {count}")
    return np.array(strings, object)


def _outputs(given: list[Any], interface: Interface, binary: bool) -> list[Output]:
    """Returns the requested outputs, or all if none are requested."""
    if not given:
        return [Output(name, binary, 0) for name in interface.outputs]
    outputs: dict[str, Output] = {}
    for fields in given:
        if not isinstance(fields, dict):
            raise InvalidInput("outputs: expected a list of objects")
        name = member(fields, "name", str)
        if name not in interface.outputs:
            raise InvalidInput(f"no output {_shown(name)}; the model gives {list(interface.outputs)}")
        if name in outputs:
            raise InvalidInput(f"output {name!r} is asked for twice")
        parameters = member(fields, "parameters", dict, {})
        classes = member(parameters, "classification", int, 0)
        if classes < 0 or (classes and not (name == SCORES and interface.labels)):
            raise InvalidInput(f"output {name!r}: classification: expected a count, of an output of scores")
        outputs[name] = Output(name, member(parameters, "binary_data", bool, binary), classes)
    return list(outputs.values())


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
