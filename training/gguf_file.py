"""Reader of GGUF files (llama.cpp) that checks each count and size against the file before it is used.

The reader of the `gguf` package trusts every count: it goes on past the end of the file, and takes 18 µs and
1 KB for each element of an array.
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InvalidInput

MOST_FIELDS = 1024  # real files have 20 to 60
MOST_ELEMENTS = 1 << 20  # in all arrays; a vocabulary of 256,000 tokens has 768,000 with types and merges
MOST_TENSORS = 1 << 13  # a Llama with 405 billion parameters has 1,138
MOST_AXES = 4  # as in llama.cpp
ALIGNMENT = 32  # bytes; the default if the file does not set it
U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
STRING, ARRAY = 8, 9
SCALARS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8",
           12: "<f8"}  # fmt: skip
"""NumPy data types by GGUF's ids of value types."""


@dataclass(frozen=True)
class GgufTensor:
    """A tensor in its stored format."""

    kind: int
    """GGML's id of the data type."""
    data: NDArray[np.uint8]
    """Raw bytes, a view of the memory-mapped file; the last axis holds the bytes of a row."""


@dataclass(frozen=True)
class GgufFile:
    """Fields and tensors of a file, by name."""

    fields: dict[str, Any]
    tensors: dict[str, GgufTensor]


def read_gguf(path: Path) -> GgufFile:
    """Reads a file; raises `InvalidInput` if it is not GGUF, or if a count or size exceeds its contents."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise InvalidInput(f"{path.name} is no GGUF file: it does not begin with GGUF")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _Walk(content).file()
    except struct.error:  # a number that would lie past the end
        raise InvalidInput(f"{path.name} is no whole GGUF file: it ends within a field") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name} is no GGUF file: a text in it is not UTF-8") from error


class _Walk:
    """Sequential parser, from the first field to the last tensor."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._place, self._elements = content, len(b"GGUF"), 0

    def file(self) -> GgufFile:
        if (version := self._number(U32)) not in (2, 3):
            raise InvalidInput(f"the file is of GGUF's version {version}; only 2 and 3 are read")
        described = self._count(MOST_TENSORS, "tensors")
        fields: dict[str, Any] = {}
        for _ in range(self._count(MOST_FIELDS, "fields")):
            name = self._string()
            fields[name] = self._value(self._number(U32))
        descriptions = [self._description() for _ in range(described)]
        alignment = fields.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise InvalidInput(f"general.alignment is {alignment!r} and not a number of bytes")
        start = -(-self._place // alignment) * alignment
        tensors = {
            name: self._tensor(start + offset, kind, shape) for name, shape, kind, offset in descriptions
        }
        held = sum(tensor.data.nbytes for tensor in tensors.values())
        if held > len(self._content):  # tensors share bytes
            raise InvalidInput(f"the tensors have {held} bytes together, the file {len(self._content)}")
        return GgufFile(fields, tensors)

    def _number(self, form: struct.Struct) -> int:
        (number,) = form.unpack_from(self._content, self._place)
        self._place += form.size
        return int(number)

    def _count(self, most: int, things: str) -> int:
        if (count := self._number(U64)) > most:
            raise InvalidInput(f"the file says that it has {count} {things}; at most {most} are read")
        return count

    def _bytes(self, size: int) -> memoryview:
        return self._part(self._place, size, advance=True)

    def _part(self, start: int, size: int, advance: bool = False) -> memoryview:
        end = start + size
        if end > len(self._content):
            left = max(0, len(self._content) - start)
            raise InvalidInput(f"the file says that {size} bytes follow where {left} are left")
        if advance:
            self._place = end
        return memoryview(self._content)[start:end]

    def _string(self) -> str:
        return str(self._bytes(self._number(U64)), "utf-8")

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            return self._scalars(kind, 1)[0]
        kind, count = self._number(U32), self._number(U64)
        self._elements += count
        if kind == ARRAY:
            raise InvalidInput("the file has an array of arrays, which no language model needs")
        if self._elements > MOST_ELEMENTS:
            raise InvalidInput(f"the file's arrays have more than {MOST_ELEMENTS} elements together")
        return [self._string() for _ in range(count)] if kind == STRING else self._scalars(kind, count)

    def _scalars(self, kind: int, count: int) -> list[Any]:
        if kind not in SCALARS:
            raise InvalidInput(f"the file has a value of type {kind}, which GGUF does not know")
        form = np.dtype(SCALARS[kind])
        return list(np.frombuffer(self._bytes(form.itemsize * count), form).tolist())

    def _description(self) -> tuple[str, tuple[int, ...], int, int]:
        """Reads a tensor's name, shape, data type and offset."""
        name = self._string()
        if (axes := self._number(U32)) > MOST_AXES:
            raise InvalidInput(f"the file has a tensor of {axes} axes; at most {MOST_AXES} are read")
        shape = tuple(self._number(U64) for _ in range(axes))[::-1]  # the file stores the last axis first
        return name, shape, self._number(U32), self._number(U64)

    def _tensor(self, start: int, kind: int, shape: tuple[int, ...]) -> GgufTensor:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        try:
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        except ValueError:
            raise InvalidInput(f"the file has a tensor of type {kind}, which GGUF does not know") from None
        if not shape or shape[-1] % block:
            raise InvalidInput(f"the file has a tensor of shape {shape}, whose rows are no blocks of {block}")
        rows = *shape[:-1], shape[-1] // block * size
        data = np.frombuffer(self._part(start, prod(rows)), np.uint8)
        return GgufTensor(kind, data.reshape(rows))
