"""Image files that would take far longer to read than to send: refused, or read in no time."""

import io
import struct
import time
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from image_files import AC, chunk, photo, png, scans, segment, tiff
from PIL import Image

from zoo.errors import InputTooLarge, InvalidInput
from zoo.image_headers import MAX_PIXELS, MOST_PARTS, MOST_SCANS, read_header
from zoo.images import decode_image, decode_images

SECONDS = 2.0  # in which a test must end; of many the files took minutes


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < SECONDS


BOMB = b"\0\0" + zlib.compress(bytes(1 << 20), 9)
DATED = chunk(b"acTL", struct.pack(">II", 9, 0)) + chunk(
    b"fcTL", struct.pack(">5I2H2B", 0, 8, 8, 0, 0, 1, 1, 0, 0)
)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(chunk(b"tEXt"), id="texts"),
        pytest.param(chunk(b"IDAT"), id="pixels"),
        pytest.param(chunk(b"tRNS", b"\0\0"), id="transparency"),
        pytest.param(chunk(b"fdAT", b"\0\0\0\1"), id="frames"),
        pytest.param(chunk(b"abCd"), id="private"),
    ],
)
def test_a_png_of_many_chunks(parts: bytes) -> None:
    """The header and two chunks more are in each."""
    for data in (png(parts * (MOST_PARTS - 1)), png(after=parts * 300_000)):
        with pytest.raises(InvalidInput, match="a PNG may have at most 10,000 chunks"):
            decode_image(data, 8, 8, 1)
    assert decode_image(png(chunk(b"tEXt") * (MOST_PARTS - 2)), 8, 8, 1).min() == 200


def test_many_chunks_or_segments_in_many_files() -> None:
    for data, word in ((png(chunk(b"IDAT") * 9000), "chunks"), (photo(segment(0xFE) * 9000), "segments")):
        with pytest.raises(InvalidInput, match=f"{word}, all of a request 200,000"):
            decode_images([data] * 30, 8, 8, 1)
    assert len(decode_images([png(chunk(b"tEXt") * 1000)] * 40, 8, 8, 1)) == 40


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(chunk(b"iCCP", b"a" + BOMB) * 1000, id="profiles"),
        pytest.param(chunk(b"zTXt", b"a" + BOMB) * 1000, id="texts"),
        pytest.param(chunk(b"zTXt", b"Raw profile type exif" + BOMB) * 1000, id="raw profiles"),
        pytest.param(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1" + BOMB) * 1000, id="XMP"),
        pytest.param(chunk(b"eXIf", tiff(60_000, 20_000, 5)), id="EXIF"),
        pytest.param(DATED + chunk(b"fdAT", b"\0\0\0\1") * 9000, id="an animation"),
    ],
)
def test_what_a_png_says_besides_its_pixels(parts: bytes) -> None:
    assert decode_image(png(parts), 8, 8, 1).min() == 200
    assert decode_image(png(after=parts), 8, 8, 1).min() == 200


def test_a_png_in_chunks_of_8_kb() -> None:
    """As libpng writes them, of 32 MB."""
    data = png(chunk(b"IDAT") * 4096)
    assert decode_image(data, 8, 8, 1).min() == 200


def empty_png(side: int, bits: int, colour: int, interlaced: int = 0) -> bytes:
    """A square PNG with a header alone."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IEND")


@pytest.mark.parametrize(
    ("side", "bits", "colour"), [(7071, 16, 6), (7071, 16, 2), (5001, 16, 6), (5774, 16, 2)]
)
def test_a_png_of_large_lines(side: int, bits: int, colour: int) -> None:
    for interlaced in (0, 1):
        with pytest.raises(InputTooLarge, match="at most"):
            decode_image(empty_png(side, bits, colour, interlaced), 8, 8, 1)


@pytest.mark.parametrize(
    ("side", "bits", "colour", "line"),
    [(7071, 8, 6, 28_284), (7071, 8, 2, 21_213), (5000, 16, 6, 40_000), (7071, 16, 0, 14_142), (9, 1, 3, 2)],
)
def test_bytes_of_the_lines_of_a_png(side: int, bits: int, colour: int, line: int) -> None:
    assert read_header(empty_png(side, bits, colour)).line_bytes == side * line


def test_large_lines_in_many_files() -> None:
    """They are refused by their headers: fewer pixels than 200 million, of 8 bytes each."""
    with pytest.raises(InputTooLarge, match="the lines of all PNGs"):
        decode_images([empty_png(220, 16, 6)] * 4096, 8, 8, 1)


def test_a_png_of_two_headers_or_a_palette_too_large() -> None:
    for part in (chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 0)), chunk(b"PLTE", bytes(771))):
        with pytest.raises(InvalidInput, match="not a readable PNG or JPEG file"):
            decode_image(png(part), 8, 8, 1)


@pytest.mark.parametrize("marker", [0xE1, 0xE5, 0xFE, 0xC4], ids=["APP1", "APP5", "COM", "DHT"])
def test_a_jpeg_of_many_segments(marker: int) -> None:
    parts = segment(marker) * 1_000_000
    for data in (photo(before=parts), photo(between=parts, progressive=True)):
        with pytest.raises(InvalidInput, match="a JPEG may have at most 10,000 segments"):
            decode_image(data, 8, 8, 1)


@pytest.mark.parametrize(
    ("before", "word"),
    [(b"\xff" * 10_000_000, "segments"), (segment(0xDB, (b"\0" + b"\1" * 64) * 1000) * 9, "not a readable")],
    ids=["fill bytes", "tables"],
)
def test_a_jpeg_that_is_long_before_its_pixels(before: bytes, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        decode_image(photo(before), 8, 8, 1)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(segment(0xEC, b"Ducky") + bytes(10_000_000), id="zeros"),
        pytest.param(segment(0xE1, b"Exif\0\0" + tiff(5000, 8000, 5)), id="EXIF"),
        pytest.param(segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 200, id="EXIF in many parts"),
        pytest.param(segment(0xE2, b"MPF\0" + tiff(5000, 8000, 5)), id="an index of pictures"),
        pytest.param(segment(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(65_000)) * 200, id="a profile"),
        pytest.param(segment(0xED, b"Photoshop 3.0\0" + (b"8BIM" + bytes(8)) * 5000) * 200, id="Photoshop"),
        pytest.param(segment(0xFE, b"\xff\xda" * 30_000) * 200, id="comments"),
    ],
)
def test_what_a_jpeg_says_besides_its_pixels(before: bytes) -> None:
    plain = photo(quality=90)
    data = plain[:2] + before + plain[2:]
    assert np.array_equal(decode_image(data, 48, 64, 3), decode_image(plain, 48, 64, 3))


@pytest.mark.parametrize("side", [8, 2000, 7071])
def test_a_jpeg_of_many_scans(side: int) -> None:
    for count in (MOST_SCANS + 1, 400, 200_000):
        with pytest.raises(InvalidInput, match="scans; save it as baseline"):
            decode_image(scans(side, count), 8, 8, 1)


def test_as_many_scans_as_there_may_be() -> None:
    assert decode_image(scans(8, MOST_SCANS), 8, 8, 1).shape == (8, 8, 1)
    assert read_header(scans(7071, 10)).scanned <= 10.1 * MAX_PIXELS
    for side, count in ((7071, 11), (4000, 64)):
        with pytest.raises(InvalidInput, match="a JPEG of this size may have at most"):
            read_header(scans(side, count))
    assert read_header(scans(3500, 10)).scanned, "12 megapixels as an encoder writes them"
    several = [scans(2500, MOST_SCANS)] * 6
    with pytest.raises(InvalidInput, match="JPEGs of so many scans take too long"):
        decode_images(several, 8, 8, 1)


def test_scans_are_counted_where_libjpeg_finds_them() -> None:
    start = b"\xff\xda" * 1000  # whatever these bytes are in, they begin no scan
    options = {"progressive": True, "quality": 90}
    for data in (
        photo(**options),
        photo(between=segment(0xFE, start), **options),
        photo(between=segment(0xE7, start), **options),
        photo(between=b"\xff" * 100, **options),  # fill bytes
        photo(after=start, **options),  # as of a film behind the photo
        photo(after=photo(**options), **options),
        photo(restart_marker_blocks=1, **options),
    ):
        assert read_header(data).scanned == 64 * 64 * 10
        assert decode_image(data, 48, 64, 3).shape == (48, 64, 3)
    cut = photo(**options)
    assert read_header(cut[: len(cut) // 2]).scanned < 64 * 64 * 10
    hidden = scans(8, 2)[:-2] + b"\xff" * 9 + segment(0xDA, AC) * 100
    with pytest.raises(InvalidInput, match="at most 64 scans"):
        read_header(hidden)
    assert read_header(photo(after=start)).scanned == 0, "a baseline photo is one scan"


@pytest.mark.parametrize("frame", [0xC3, 0xC9, 0xCA, 0xC5])
def test_a_jpeg_that_is_neither_baseline_nor_progressive(frame: int) -> None:
    """Lossless, or with arithmetic coding, of which a scan without a byte takes as long as one of many."""
    with pytest.raises(InvalidInput, match="a JPEG must be baseline or progressive"):
        decode_image(scans(64, 1, frame), 8, 8, 1)


def test_a_jpeg_of_two_frames_or_none() -> None:
    data = scans(64, 1)
    frame = data.index(b"\xff\xc2")
    size = data[frame : frame + 13]
    with pytest.raises(InvalidInput, match="one frame"):
        read_header(data[:frame] + size + data[frame:])
    with pytest.raises(InvalidInput, match="not a readable"):
        read_header(data[:frame] + data[frame + 13 :])


# Orientations, wherever they are said.

XMP = b'<rdf:Description tiff:Orientation="6"/>'
EXIF = Image.Exif()
EXIF[0x0112] = 6
BLOCK = EXIF.tobytes()[6:]
PROFILE = b"\nexif\n%8d\n" % len(BLOCK) + BLOCK.hex().encode() + b"\n"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(chunk(b"eXIf", BLOCK), id="EXIF"),
        pytest.param(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), id="XMP"),
        pytest.param(
            chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0x\0" + zlib.compress(XMP)), id="compressed XMP"
        ),
        pytest.param(chunk(b"tEXt", b"Raw profile type exif\0" + PROFILE), id="profile"),
        pytest.param(
            chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(PROFILE)), id="compressed profile"
        ),
        pytest.param(
            chunk(b"eXIf", BLOCK) + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.replace(b"6", b"3")),
            id="EXIF before XMP",
        ),
    ],
)
def test_orientations_of_a_png(said: bytes) -> None:
    for data in (png(said), png(after=said)):
        assert read_header(data).orientation == 6
        assert Image.open(io.BytesIO(png(said))).getexif()[0x0112] == 6


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("form", ["H", "I"])
def test_orientations_of_a_jpeg(order: str, form: str) -> None:
    kind, mark = {"H": 3, "I": 4}[form], {"<": b"II*\0", ">": b"MM\0*"}[order]
    value = struct.pack(order + form, 8).ljust(4, b"\0")
    head = mark + struct.pack(f"{order}IH", 8, 2) + struct.pack(f"{order}HHII", 0x0100, 3, 1, 0)
    block = head + struct.pack(f"{order}HHI", 0x0112, kind, 1) + value + bytes(4)
    data = photo(before=segment(0xE1, b"Exif\0\0" + block))
    assert read_header(data).orientation == 8
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 8
    said = b"http://ns.adobe.com/xap/1.0/\0<tiff:Orientation>3</tiff:Orientation>"
    assert read_header(photo(before=segment(0xE1, said))).orientation == 3


@pytest.mark.parametrize(
    "block",
    [b"", b"II*\0", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\xff\xff\xff\xff", b"XX*\0\0\0\0\x08", tiff(3, 1, 3)],
)
def test_blocks_without_an_orientation(block: bytes) -> None:
    assert read_header(photo(before=segment(0xE1, b"Exif\0\0" + block))).orientation == 1
    assert read_header(png(chunk(b"eXIf", block))).orientation == 1
