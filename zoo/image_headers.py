"""Headers of PNG and JPEG files, read without a decoder: the size, and what decoding will keep in memory.

Pillow's `Image.open` takes ten times as long, and inflates a PNG's texts. A file that is out of the ordinary
has no `Header` here: it is left to Pillow, which forgives more.
"""

import struct
from dataclasses import dataclass

PNG_BEGINS, JPEG_BEGINS = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8"
MOST_CHUNKS = 20_000  # of a PNG: those of 8 KB, as usual, make up 160 MB
COPIES = 3  # that Pillow makes of the rest of a file, at most
INFLATED = 1 << 20  # bytes to which Pillow inflates a chunk, at most
PIXELS = (b"IDAT", b"fdAT")  # chunks that are read piece by piece
COMPRESSED = (b"zTXt", b"iTXt", b"iCCP")
# What may hold an orientation, besides a PNG's chunk eXIf.
TURNING_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
TURNING_SEGMENTS = (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0")
SEGMENTS = frozenset({*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE}) - {0xC8}  # markers before a length
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
SCAN = 0xDA
GREYS = {1: "1", 16: "I;16"}  # modes by bits; else L
MODES = {2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}  # by a PNG's colour type
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2}  # of a pixel, by the same
COMPONENTS = {1: "L", 3: "RGB", 4: "CMYK"}  # of a JPEG
BLOCK = 32  # pixels a side, at most, by whose multiples libjpeg keeps coefficients


@dataclass(frozen=True)
class Header:
    """Size and form of an image file."""

    width: int
    height: int
    mode: str
    """Pillow's name of the form in which the pixels are decoded."""
    scalable: bool
    """True if the decoder can scale (JPEG)."""
    may_turn: bool
    """True if the file may declare an EXIF orientation."""
    transparent: bool
    kept: int
    """Bytes that the decoder keeps beside the pixels, at most."""


def png_header(data: bytes) -> Header | None:
    """Header of a PNG file; None of other files, and of one that is out of the ordinary."""
    if not data.startswith(PNG_BEGINS) or len(data) < 33:
        return None
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    mode = GREYS.get(bits, "L") if colour == 0 else MODES.get(colour, "RGBA")
    lines = 2 * (1 + width * bits * SAMPLES.get(colour, 4) // 8)  # this one and the one above it
    may_turn, transparent, kept, place = False, mode in ("LA", "RGBA"), lines, 33
    for _ in range(MOST_CHUNKS):
        if place + 8 > len(data):
            return Header(width, height, mode, False, may_turn, transparent, kept)
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"IHDR":  # of two, Pillow takes the last
            return None
        may_turn |= kind == b"eXIf" or data.startswith(TURNING_TEXTS, place + 8)
        transparent |= kind == b"tRNS"
        if kind not in PIXELS:
            kept += COPIES * min(length, len(data) - place) + (INFLATED if kind in COMPRESSED else 0)
        place += 12 + length
    return None


def jpeg_header(data: bytes) -> Header | None:
    """Header of a JPEG file; None of other files, and of one that is out of the ordinary."""
    if not data.startswith(JPEG_BEGINS):
        return None
    frame, progressive, may_turn, place = b"", False, False, 2
    while place + 4 < len(data) and data[place] == 0xFF and (marker := data[place + 1]) in SEGMENTS:
        content = data[place + 4 : place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")]
        if marker == SCAN:
            in_scans = progressive or content[:1] != frame[5:6]  # fewer components than there are
            return _jpeg_header(frame, in_scans, may_turn, COPIES * place)
        if marker in FRAMES:
            frame, progressive = content, marker in PROGRESSIVE
        may_turn |= content.startswith(TURNING_SEGMENTS)
        place += 4 + len(content)
    return None


def _jpeg_header(frame: bytes, in_scans: bool, may_turn: bool, kept: int) -> Header | None:
    """Header of a JPEG with this frame, whose components come together or in several scans."""
    mode = COMPONENTS.get(len(frame) // 3 - 2)
    if mode is None or len(frame) != 6 + 3 * frame[5]:
        return None
    height, width = struct.unpack_from(">HH", frame, 1)
    sampling = [(byte >> 4) * (byte & 15) for byte in frame[7::3]]
    if not all(sampling):
        return None
    kept += BLOCK * width * len(sampling)  # lines of blocks
    if in_scans:  # libjpeg collects all coefficients, two bytes each, however small the image is to become
        samples = -(-width // BLOCK) * BLOCK * -(-height // BLOCK) * BLOCK
        kept += 2 * samples * sum(sampling) // max(sampling)
    return Header(width, height, mode, True, may_turn, False, kept)
