"""GGUF files that claim more than they hold, and valid ones with bytes changed: refused at once."""

import resource
import struct
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tiny_gguf

from training.gguf_file import MOST_ELEMENTS, MOST_FIELDS, MOST_TENSORS, read_gguf
from training.gguf_model import read
from zoo.errors import InvalidInput

BEGINNING = b"GGUF" + struct.pack("<I", 3)
MEGABYTE_KB = 1024


def fields(count: int, content: bytes) -> bytes:
    return BEGINNING + struct.pack("<QQ", 0, count) + content


def field(kind: int, content: bytes) -> bytes:
    """A file with one field, `a`."""
    return fields(1, struct.pack("<Q", 1) + b"a" + struct.pack("<I", kind) + content)


def tensor(shape: tuple[int, ...], kind: int = 0, offset: int = 0, count: int = 1) -> bytes:
    described = struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    named = b"".join(struct.pack("<Q", 4) + b"%04d" % number + described for number in range(count))
    return BEGINNING + struct.pack("<QQ", count, 0) + named + bytes(256)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "does not begin with GGUF"),
        (b"GGUF", "ends within a field"),
        (b"GGUF" + bytes(60), "version 0"),
        (fields(2**63, b""), f"at most {MOST_FIELDS} are read"),
        (BEGINNING + struct.pack("<QQ", 2**63, 0), f"at most {MOST_TENSORS} are read"),
        (field(9, struct.pack("<IQ", 0, 2**40) + bytes(64)), f"more than {MOST_ELEMENTS} elements"),
        (field(9, struct.pack("<IQ", 10, 1000) + bytes(64)), "8000 bytes follow where 64 are left"),
        (field(9, struct.pack("<IQ", 8, 1000) + bytes(64)), "ends within a field"),
        (field(9, struct.pack("<IQ", 9, 1) * 2000), "array of arrays"),
        (field(8, struct.pack("<Q", 2**62) + b"a"), "4611686018427387904 bytes follow where 1 are left"),
        (field(8, struct.pack("<Q", 1) + b"\xff"), "not UTF-8"),
        (field(77, b""), "type 77"),
        (fields(1, struct.pack("<Q", 2**62) + b"a"), "bytes follow where 1 are left"),
        (tensor((2**32, 2**32)), "bytes follow where"),
        (tensor((8,), offset=2**60), "bytes follow where 0 are left"),
        (tensor((1,) * 1000), "1000 axes"),
        (tensor((4,), kind=99), "type 99"),
        (tensor((4,), kind=3), "no blocks of 32"),
        (tensor((32,), count=100), "bytes together"),
    ],
)
def test_claims_are_compared_with_the_file(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "claims.gguf"
    path.write_bytes(content)
    begun = time.monotonic()
    with pytest.raises(InvalidInput, match=why):
        read_gguf(path)
    assert time.monotonic() - begun < 1


def test_another_alignment(tmp_path: Path) -> None:
    """An alignment that would place the tensors behind the file, or nowhere."""
    for alignment, why in ((2**31, "are left"), (0, "no.* a number of bytes")):
        name = b"general.alignment"
        one = struct.pack("<Q", len(name)) + name + struct.pack("<II", 4, alignment)
        described = struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 8, 0, 0)
        path = tmp_path / "aligned.gguf"
        path.write_bytes(BEGINNING + struct.pack("<QQ", 1, 1) + one + described + bytes(64))
        with pytest.raises(InvalidInput, match=why):
            read_gguf(path)


def test_as_many_elements_as_are_read(tmp_path: Path) -> None:
    path = tmp_path / "elements.gguf"
    path.write_bytes(field(9, struct.pack("<IQ", 0, MOST_ELEMENTS) + bytes(MOST_ELEMENTS)))
    begun = time.monotonic()
    assert len(read_gguf(path).fields["a"]) == MOST_ELEMENTS
    assert time.monotonic() - begun < 2


def test_more_blocks_than_there_are(tmp_path: Path) -> None:
    path = tiny_gguf.write(tmp_path / "tiny.gguf", fields={"llama.block_count": 2**31})
    with pytest.raises(InvalidInput, match="it has 2147483648 blocks, and holds 2"):
        read(path)


@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    """Changes of single bytes and of whole counts, and ends that are cut off."""
    path = tmp_path / "changed.gguf"
    valid, random = tiny_gguf.write(path).read_bytes(), np.random.default_rng(seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    described = valid.index(b"output_norm.weight") + 64
    for _ in range(100):
        changed = bytearray(valid)
        place = int(random.integers(4, described))
        match random.integers(3):
            case 0:
                changed[place] = random.integers(256)
            case 1:
                changed[place : place + 8] = struct.pack("<Q", 1 << int(random.integers(64)))
            case _:
                del changed[place:]
        path.write_bytes(changed)
        begun = time.monotonic()
        with suppress(InvalidInput):
            read(path)
        assert time.monotonic() - begun < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * MEGABYTE_KB
