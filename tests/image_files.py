"""PNG and JPEG files made by hand, with what no encoder writes."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

DC, AC = b"\1\1\0\0\0\0", b"\1\1\0\1\x3f\0"  # headers of scans of one component: the first, and another
RANDOM = np.random.default_rng(0)


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(before: bytes = b"", after: bytes = b"") -> bytes:
    """Of 8 x 8 pixels, all 200."""
    rows = zlib.compress((b"\0" + b"\xc8" * 8) * 8)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", rows) + after + chunk(b"IEND")


def segment(marker: int, content: bytes = b"") -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def photo(before: bytes = b"", between: bytes = b"", after: bytes = b"", **options: object) -> bytes:
    """Of 64 x 48 pixels; with something before the header, before the second scan, or behind the end."""
    buffer = io.BytesIO()
    pixels = RANDOM.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 48)).save(buffer, "JPEG", **options)
    data = buffer.getvalue()
    if between:
        at = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
        data = data[:at] + between + data[at:]
    return data[:2] + before + data[2:] + after


def scans(side: int, count: int, frame: int = 0xC2) -> bytes:
    """A grey JPEG of few bytes, in scans without pixels."""
    codes = segment(0xC4, b"\0\1" + bytes(16)) + segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")
    size = struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0"
    head = segment(0xDB, b"\0" + b"\1" * 64) + segment(frame, size) + codes
    return b"\xff\xd8" + head + segment(0xDA, DC) + segment(0xDA, AC) * (count - 1) + b"\xff\xd9"


def tiff(tags: int, count: int, form: int) -> bytes:
    """An EXIF block whose tags all have the same many values."""
    entries = b"".join(struct.pack("<HHII", 1000 + i, form, count, 8) for i in range(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", tags) + entries + bytes(4)
