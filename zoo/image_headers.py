"""Headers of PNG and JPEG files, read without a decoder: size, cost of decoding, and the pieces it needs.

Pillow parses in Python everything that a file holds before its pixels: texts, profiles, previews, comments,
EXIF. A few kilobytes of gzip can keep it busy for minutes. So Pillow gets only the pieces that the pixels
need, and this module limits their number.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, repeat

from zoo.errors import InputTooLarge, InvalidInput
from zoo.image_orientation import MOST_BYTES, SIDEWAYS, exif_of_profile, orientation, text_of

MAX_PIXELS = 50_000_000
MOST_PARTS = 10_000
"""Maximum number of chunks of a PNG or segments of a JPEG: a typical PNG of 32 MB has 4,000 of 8 KB."""
MOST_PARTS_TOGETHER = 20 * MOST_PARTS
"""Maximum number of chunks and segments of a request's images, 48 each for 4,096; each takes up to 2 us."""
ENDLESS = repeat(None)
MOST_SCANS = 64  # maximum of a JPEG: encoders write about 10
MOST_SCANNED = 512_000_000
"""Maximum of samples times scans of a JPEG: 50 megapixels in 10 scans. A scan may be a few bytes long, and
libjpeg takes up to 1.4 ns for each sample of a scan: 0.7 s in all."""
MOST_LINE_BYTES = 4 * MAX_PIXELS
"""Maximum size of a PNG's decompressed lines in bytes: MAX_PIXELS of 8-bit RGBA. A file of a few kilobytes
may hold them, and Pillow takes up to 7 ns for each byte, interlaced or not: 1.4 s in all."""
MOST_TABLES = 1 << 17
"""Maximum size of the tables in a JPEG's header in bytes, usually below 1,000; 65 bytes take Pillow 10 us."""
COPIES = 3  # maximum number of copies that Pillow makes of a header

PNG_BEGINS, JPEG_BEGINS = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8"
PIXELS = b"IDAT"  # Pillow reads it piece by piece
NEEDED_CHUNKS = frozenset({b"PLTE", b"tRNS", PIXELS, b"IEND"})
LARGEST_TABLE = 12 + 3 * 256  # bytes of a palette's chunk
XMP_TEXT, EXIF_TEXT = b"XML:com.adobe.xmp\0", b"Raw profile type exif\0"
GREYS = {1: "1", 16: "I;16"}  # modes of grey PNGs by bits; otherwise L
MODES = {2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}  # by a PNG's colour type
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2}  # samples per pixel, by a PNG's colour type

# A marker, or one of the fill bytes that may precede it; neither a stuffed byte nor a restart marker.
MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xff]")
FILL, FIRST_SEGMENT = 0xFF, 0xC0
SEGMENTS = frozenset({*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE}) - {0xC8}  # markers before a length
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
HUFFMAN, PROGRESSIVE = (0xC0, 0xC1, 0xC2), 0xC2
SCAN = 0xDA
TABLES = (0xC4, 0xDB, 0xDD)  # Huffman codes, quantisation, restart interval
# Beginnings of the segments that say how colours are stored, by marker; then of those that may hold an
# orientation.
COLOURS = {0xE0: (b"JFIF\0",), 0xEE: (b"Adobe",)}
EXIF_SEGMENT, XMP_SEGMENT = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
APP1 = 0xE1
COMPONENTS = {1: "L", 3: "RGB", 4: "CMYK"}  # modes of a JPEG by number of components
BLOCK = 32  # pixels; libjpeg stores coefficients for sides rounded up to a multiple of at most this

Piece = tuple[int, int]
"""Start and end offsets in a file."""


@dataclass(slots=True)  # not frozen: that would take longer than reading a small header
class Header:
    """Size and format of an image file."""

    kind: str
    """File format, `PNG` or `JPEG`."""
    width: int
    height: int
    mode: str
    """Pillow's mode of the decoded pixels."""
    orientation: int
    """EXIF orientation, 1 to 8."""
    transparent: bool
    kept: int
    """Maximum number of bytes that the decoder keeps in addition to the pixels."""
    scanned: int
    """Samples times scans of a JPEG; 0 if it has a single scan."""
    line_bytes: int
    """Bytes of a PNG's decompressed lines; 0 for a JPEG."""
    pieces: tuple[Piece, ...]
    """Parts of the file that a decoder needs; a single part is the whole file."""

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the upright image."""
        sideways = self.orientation in SIDEWAYS
        return (self.height, self.width) if sideways else (self.width, self.height)

    @property
    def copied(self) -> int:
        """Number of bytes that `needed` copies."""
        return sum(end - begin for begin, end in self.pieces) if len(self.pieces) > 1 else 0

    def needed(self, data: bytes) -> bytes:
        """Returns only the parts of the file that a decoder needs."""
        if len(self.pieces) == 1:
            return data
        return b"".join([memoryview(data)[begin:end] for begin, end in self.pieces])


def read_header(data: bytes, parts: Iterator[None] = ENDLESS) -> Header:
    """Reads the header of a PNG or JPEG file; takes an item of `parts` for each of its chunks or segments.

    `InvalidInput` if the file is neither, or would take long to decode; `InputTooLarge` past MAX_PIXELS or
    MOST_LINE_BYTES.
    """
    if data.startswith(PNG_BEGINS) and len(data) >= 33:
        return _png_header(data, parts)
    if data.startswith(JPEG_BEGINS):
        return _jpeg_header(data, parts)
    raise unreadable()


def unreadable() -> InvalidInput:
    """Returns the error for a file that cannot be decoded."""
    return InvalidInput("image: not a readable PNG or JPEG file")


def _png_header(data: bytes, parts: Iterator[None]) -> Header:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    _check_size(width, height)
    mode = GREYS.get(bits, "L") if colour == 0 else MODES.get(colour, "RGBA")
    line = -(-width * bits * SAMPLES.get(colour, 4) // 8)
    if height * line > MOST_LINE_BYTES:
        raise InputTooLarge(
            f"image: the PNG's lines have {height * line:,} bytes; at most {MOST_LINE_BYTES:,} are accepted; "
            "save it with 8 bits per sample"
        )
    kept = 2 * (1 + line)  # this line and the one above it
    exif, profile, xmp, transparent = b"", (b"", b""), (b"", b""), mode in ("LA", "RGBA")
    pieces: list[Piece] = [(0, 33)]
    for kind, place, end in _chunks(data, parts):
        if kind in NEEDED_CHUNKS:
            if kind != PIXELS and end - place > LARGEST_TABLE:
                raise unreadable()
            _join(pieces, place, end)
            transparent |= kind == b"tRNS"
        elif kind == b"IHDR":  # a second one: readers differ in which they use
            raise unreadable()
        else:
            content = slice(place + 8, min(end - 4, place + 8 + MOST_BYTES))
            if kind == b"eXIf":
                exif = data[content]
            elif data.startswith(XMP_TEXT, place + 8):
                xmp = kind, data[content]
            elif data.startswith(EXIF_TEXT, place + 8):
                profile = kind, data[content]
    turned = orientation(exif or exif_of_profile(text_of(*profile)), text_of(*xmp))
    return Header("PNG", width, height, mode, turned, transparent, kept, 0, height * line, tuple(pieces))


def _chunks(data: bytes, parts: Iterator[None]) -> Iterator[tuple[bytes, int, int]]:
    """Yields type, start and end of each chunk after the first; `InvalidInput` if there are too many."""
    place = 33
    for _ in islice(parts, MOST_PARTS):
        if place + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, place)
        end = min(place + 12 + length, len(data))
        yield kind, place, end
        if kind == b"IEND":
            return
        place = end
    raise _too_many_parts("PNG", "chunks")


def _jpeg_header(data: bytes, parts: Iterator[None]) -> Header:
    frame, exif, xmp, progressive = b"", b"", b"", False
    pieces: list[Piece] = [(0, 2)]
    segments = _segments(data, parts)
    for marker, place, end in segments:
        if marker in TABLES:
            _join(pieces, place, end)
            continue
        content = data[place + 4 : end]
        if marker == SCAN:
            break
        if marker in FRAMES:
            if frame or marker not in HUFFMAN:
                raise InvalidInput(
                    "image: a JPEG must be baseline or progressive, with one frame and Huffman codes"
                )
            frame, progressive = content, marker == PROGRESSIVE
        if marker in FRAMES or content.startswith(COLOURS.get(marker, ())):
            _join(pieces, place, end)
        elif marker == APP1 and content.startswith(EXIF_SEGMENT):
            exif = exif or content
        elif marker == APP1 and content.startswith(XMP_SEGMENT):
            xmp = content
    else:
        raise unreadable()
    tables = sum(end - begin for begin, end in pieces)
    mode = COMPONENTS.get(len(frame) // 3 - 2)
    if mode is None or len(frame) != 6 + 3 * frame[5] or tables > MOST_TABLES:
        raise unreadable()
    height, width = struct.unpack_from(">HH", frame, 1)
    _check_size(width, height)
    kept, scanned = COPIES * tables + BLOCK * width * frame[5], 0  # tables, and one row of blocks
    if progressive or content[:1] != frame[5:6]:  # not all components are in the first scan
        # libjpeg stores all coefficients, two bytes each, however small the scaled image is
        samples = -(-width // BLOCK) * BLOCK * -(-height // BLOCK) * BLOCK
        sampling = [(byte >> 4) * (byte & 15) for byte in frame[7::3]]
        kept += 2 * samples * sum(sampling) // max(1, *sampling)
        scanned = samples * _count_scans(segments, min(MOST_SCANS, MOST_SCANNED // samples))
    _join(pieces, place, len(data))
    turned = orientation(exif.removeprefix(EXIF_SEGMENT), xmp)
    return Header("JPEG", width, height, mode, turned, False, kept, scanned, 0, tuple(pieces))


def _segments(data: bytes, parts: Iterator[None]) -> Iterator[tuple[int, int, int]]:
    """Yields marker, start and end of each segment of a JPEG; `InvalidInput` if there are too many.

    Finds them as libjpeg does: skips everything before a marker, such as the coded pixels after the header of
    a scan. The regular expression skips the restart markers in these.
    """
    end = 2
    for _ in islice(parts, MOST_PARTS):
        found = MARKER.search(data, end)
        if found is None:
            return
        place, end = found.span()
        marker = data[end - 1]
        if marker in SEGMENTS:
            end += max(2, int.from_bytes(data[end : end + 2], "big"))
            yield marker, place, min(end, len(data))
        elif marker == FILL:
            end -= 1
        elif marker >= FIRST_SEGMENT:
            return
        # Any other marker is reserved, and libjpeg skips it while it looks for a restart.
    raise _too_many_parts("JPEG", "segments")


def _too_many_parts(kind: str, parts: str) -> InvalidInput:
    return InvalidInput(
        f"image: a {kind} may have at most {MOST_PARTS:,} {parts}, all of a request {MOST_PARTS_TOGETHER:,}"
    )


def _count_scans(segments: Iterator[tuple[int, int, int]], most: int) -> int:
    """Counts the scans of a JPEG, after the first was read; `InvalidInput` if there are more than `most`."""
    scans = 1
    for marker, _, _ in segments:
        scans += marker == SCAN
        if scans > most:
            raise InvalidInput(
                f"image: a JPEG of this size may have at most {most} scans; save it as baseline"
            )
    return scans


def _join(pieces: list[Piece], begin: int, end: int) -> None:
    """Appends a piece, or extends the last one if that ends where it begins."""
    if pieces[-1][1] == begin:
        begin, _ = pieces.pop()
    pieces.append((begin, end))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputTooLarge(f"image: {width} x {height} pixels; at most {MAX_PIXELS:,} are accepted")
    if width * height == 0:
        raise unreadable()
