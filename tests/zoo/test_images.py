"""Image files of every kind that people have, and of the kinds that only attackers have."""

import base64
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from zoo.errors import InputTooLarge, InvalidInput
from zoo.images import GAP, decode_base64, decode_image, decode_png, encode_png, grid


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises pixels and has none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = b"IHDR" + header
    chunk = struct.pack(">I", len(header)) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IEND\xaeB`\x82"


GREY = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8))
RED = Image.new("RGB", (8, 8), (255, 0, 0))


def test_grey_pixels_come_back_exactly() -> None:
    pixels = decode_image(file_of(GREY), 8, 8, 1)
    assert pixels.shape == (8, 8, 1)
    assert pixels.dtype == np.uint8
    assert (pixels[..., 0] == np.asarray(GREY)).all()


def test_encode_png_is_the_inverse() -> None:
    for channels in (1, 3):
        pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
        assert (decode_image(encode_png(pixels), 5, 7, channels) == pixels).all()
        assert (decode_png(encode_png(pixels)) == pixels).all()


def test_a_file_may_say_something_in_words() -> None:
    data = encode_png(np.zeros((1, 1, 1), np.uint8), {"seed": "7"})
    assert Image.open(io.BytesIO(data)).info == {"seed": "7"}


@pytest.mark.parametrize(
    ("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (3, 2, 2), (5, 2, 3), (7, 3, 3), (16, 4, 4)]
)
def test_a_grid_is_near_to_a_square(count: int, rows: int, columns: int) -> None:
    images = [np.full((4, 6, 3), i, np.uint8) for i in range(count)]
    sheet = grid(images)
    assert sheet.shape == (rows * 4 + (rows - 1) * GAP, columns * 6 + (columns - 1) * GAP, 3)
    for i in range(count):
        row, column = i // columns * (4 + GAP), i % columns * (6 + GAP)
        assert (sheet[row : row + 4, column : column + 6] == i).all()
    assert (sheet != 255).sum() == count * 4 * 6 * 3, "all else is white"


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    samples = np.array([[0, 257, 32896, 65535]], np.uint16)
    assert decode_image(file_of(Image.fromarray(samples)), 1, 4, 1).ravel().tolist() == [0, 1, 128, 255]


def test_palette_becomes_its_colours() -> None:
    assert decode_image(file_of(RED.convert("P")), 8, 8, 3)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_white(mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0)).convert(mode)
    assert (decode_image(file_of(clear), 8, 8, 1) == 255).all()


def test_transparent_palette_entry_is_white() -> None:
    assert (decode_image(file_of(Image.new("P", (8, 8), 0), transparency=0), 8, 8, 1) == 255).all()


def test_transparent_sixteen_bit_sample_is_white() -> None:
    black = Image.fromarray(np.zeros((2, 2), np.uint16))
    chunk = b"tRNS\0\0"
    data = file_of(black)
    at = data.index(b"IDAT") - 4
    data = data[:at] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[at:]
    assert (decode_image(data, 2, 2, 1) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_orientation_is_applied(kind: str) -> None:
    image = Image.new("L", (16, 8), 0)
    image.paste(255, (0, 0, 8, 8))  # white left half
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    turned = decode_image(file_of(image, kind, exif=exif), 16, 8, 1)
    assert turned[:6].min() > 240
    assert turned[-6:].max() < 15


def test_first_frame_of_an_animation() -> None:
    black, white = Image.new("L", (8, 8), 0), Image.new("L", (8, 8), 255)
    animation = file_of(black, save_all=True, append_images=[white, white])
    assert decode_image(animation, 8, 8, 1).max() == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_png_mode(mode: str, channels: int) -> None:
    assert decode_image(file_of(Image.new(mode, (12, 9))), 8, 8, channels).shape == (8, 8, channels)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_jpeg_mode(mode: str) -> None:
    assert decode_image(file_of(Image.new(mode, (12, 9)), "JPEG"), 8, 8, 3).shape == (8, 8, 3)


def test_other_sizes_are_cropped_to_the_centre() -> None:
    wide = Image.new("L", (30, 10), 0)
    wide.paste(255, (10, 0, 20, 10))
    assert decode_image(file_of(wide), 8, 8, 1).min() > 240  # the filter sees the edges


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not an image", id="text"),
        pytest.param(file_of(NOISE)[:800], id="truncated PNG"),
        pytest.param(file_of(RED, "JPEG")[:300], id="truncated JPEG"),
        pytest.param(file_of(RED, "GIF"), id="GIF"),
        pytest.param(file_of(RED, "BMP"), id="BMP"),
        pytest.param(png_header(8, 8), id="no pixels"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", id="PostScript"),
    ],
)
def test_what_is_no_readable_image(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="image: not a readable PNG or JPEG file"):
        decode_image(data, 8, 8, 1)


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (50_000_001, 1), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_from_the_header(width: int, height: int) -> None:
    with pytest.raises(InputTooLarge, match=f"{width} x {height} pixels"):
        decode_image(png_header(width, height), 8, 8, 1)


FILE = b"\xfb\xff\xfe" * 20 + b"in three alphabets"  # with + and /, or - and _
BASE64 = base64.b64encode(FILE + b"!").decode()  # with padding
LINES = BASE64[:64] + "\r\n" + BASE64[64:] + "\n"
URL = base64.urlsafe_b64encode(FILE + b"!").decode()


@pytest.mark.parametrize(
    "text",
    [
        BASE64,
        BASE64.rstrip("="),
        LINES,
        LINES.replace("=", ""),
        URL,
        URL.rstrip("="),
        URL[:30] + "\n" + URL[30:].rstrip("="),
        f"data:image/png;base64,{BASE64}",
        f"data:image/png;BASE64,{BASE64}",
        f"DATA:image/png;Base64,{URL}",
        f"data:image/png;charset=utf-8;base64,{LINES}",
        f"data:;base64,{URL.rstrip('=')}",
    ],
)
def test_every_form_of_base64(text: str) -> None:
    assert "=" in BASE64
    assert "+" in BASE64
    assert decode_base64(text) == FILE + b"!"


@pytest.mark.parametrize("size", range(6))
def test_base64_of_every_length_without_padding(size: int) -> None:
    assert decode_base64(base64.b64encode(FILE[:size]).decode().rstrip("=")) == FILE[:size]


@pytest.mark.parametrize(
    "text",
    [
        "%%%",
        "A",
        "QUJDQ",
        "QQ=",
        "QQ===",
        "=",
        "====",
        "QQ=Q",
        "QUI=QUI=",
        "QUJD\0",
        "QUJD%3D",
        "é",
        BASE64 + "-",
        BASE64[:8] + URL[8:],
        BASE64[1:],
    ],
)
@pytest.mark.parametrize("before", ["", "data:image/png;base64,"])
def test_what_is_no_base64(before: str, text: str) -> None:
    with pytest.raises(InvalidInput, match="image: not valid base64"):
        decode_base64(before + text)


@pytest.mark.parametrize(
    "text", ["data:image/png,raw", "data:,", "data:", "data:image/png;base64", "data:base64,QUJD"]
)
def test_a_data_url_that_is_not_base64(text: str) -> None:
    with pytest.raises(InvalidInput, match="image: a data URL must be base64: data:image/png;base64,"):
        decode_base64(text)
