"""Fits decoded images to a model's size, orientation and colours, and computes the memory that this takes."""

import math

import numpy as np
from PIL import Image
from PIL.Image import Transpose

from zoo.image_headers import Header
from zoo.image_orientation import SIDEWAYS

BICUBIC = Image.Resampling.BICUBIC
# Transposition that makes an image upright, by EXIF orientation.
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
# Orientations whose left column, or top row, comes from the end of the file's rows or columns.
FROM_RIGHT, FROM_BOTTOM = (2, 3, 6, 7), (3, 4, 7, 8)
SCALES = (8, 4, 2)  # factors by which libjpeg can divide the sides
MARGIN = 2  # the sides of a scaled crop are at least this many times the wanted ones
GREY = ("1", "L", "LA", "I", "I;16")
TILE = 1 << 18  # pixels that are flattened at one time
TILE_COPIES = 5  # copies of an RGBA tile: cut out, converted, white, composed, converted back
DECODER_BYTES = 1 << 20  # tables of a decoder
PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2}  # bytes per pixel in Pillow's memory; 4 in other modes
Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""


def scale_of(header: Header, wanted: tuple[int, int]) -> int:
    """Returns the factor by which decoding may divide the sides and keep a crop of MARGIN times `wanted`."""
    if header.kind != "JPEG":
        return 1
    left, top, right, bottom = _crop(header.upright, wanted[0] / wanted[1])
    room = min((right - left) / wanted[0], (bottom - top) / wanted[1]) / MARGIN
    return next((scale for scale in SCALES if scale <= room), 1)


def fit(header: Header, scale: int, image: Image.Image, wanted: tuple[int, int], mode: str) -> Image.Image:
    """Returns the largest centred crop of the wanted aspect: upright, opaque, resized to the wanted size.

    `image` is the decoded file of this header, its sides divided by `scale`. A large image is processed in
    strips, since each step makes a copy: while the width is resized, a line depends only on itself.
    """
    orientation = header.orientation
    size = image.size[::-1] if orientation in SIDEWAYS else image.size
    if size == wanted:
        return _flatten(_turn(image, orientation), mode)
    box = _box(header, scale, size, wanted)
    if size[0] * size[1] <= TILE or _is_plain(image, orientation, mode):
        return _flatten(_turn(image, orientation), mode).resize(wanted, BICUBIC, box)
    left, top, right, bottom = _seen(box, wanted, size)
    narrow = Image.new(mode, (wanted[0], bottom - top))
    rows = _rows(right - left)
    for first in range(top, bottom, rows):
        last = min(first + rows, bottom)
        area = _in_file((left, first, right, last), size, orientation)
        strip = _flatten(_turn(image.crop(area), orientation), mode)
        across = (box[0] - left, 0, box[2] - left, last - first)
        narrow.paste(strip.resize((wanted[0], last - first), BICUBIC, across), (0, first - top))
    return narrow.resize(wanted, BICUBIC, (0, box[1] - top, wanted[0], box[3] - top))


def peak_bytes(header: Header, wanted: tuple[int, int], channels: int) -> int:
    """Returns the maximum memory in bytes that decoding and fitting a file take, besides the file itself."""
    scale, mode = scale_of(header, wanted), header.mode
    size = -(-header.width // scale), -(-header.height // scale)
    if scale > 1 and channels == 1 and mode == "RGB":
        mode = "L"  # libjpeg leaves out the colours
    flat_mode = mode_of(mode, channels)
    upright = size[::-1] if header.orientation in SIDEWAYS else size
    left, top, right, bottom = _seen(_box(header, scale, upright, wanted), wanted, upright)
    strip = (right - left, min(_rows(right - left), bottom - top))
    if upright[0] * upright[1] <= TILE:
        strip = upright
    plain = header.orientation == 1 and mode == flat_mode and not header.transparent
    return (
        DECODER_BYTES
        + header.kept
        + header.copied
        + _stored_bytes(size, mode)
        + (0 if plain else TILE_COPIES * _stored_bytes(strip, "RGBA"))
        + _stored_bytes((wanted[0], bottom - top), flat_mode)
    )


def mode_of(mode: str, channels: int) -> str:
    """Returns Pillow's mode in which an image of the given mode is fitted."""
    return "L" if channels == 1 or mode in GREY else "RGB"


def _crop(size: tuple[int, int], aspect: float) -> Box:
    """Returns the largest centred crop of an aspect, as in `ImageOps.fit`."""
    width, height = size
    wide, high = float(width), float(height)
    if width / height > aspect:
        wide = aspect * height
    elif width / height < aspect:
        high = width / aspect
    left, top = (width - wide) * 0.5, (height - high) * 0.5
    return left, top, left + wide, top + high


def _box(header: Header, scale: int, size: tuple[int, int], wanted: tuple[int, int]) -> Box:
    """Returns the crop in an upright image of `size` whose sides were divided by `scale`.

    libjpeg rounds a divided side up, so that the file's last column and row hold only a part of a pixel.
    """
    width, height = header.upright
    before_left = size[0] - width / scale if header.orientation in FROM_RIGHT else 0.0
    above = size[1] - height / scale if header.orientation in FROM_BOTTOM else 0.0
    left, top, right, bottom = (edge / scale for edge in _crop(header.upright, wanted[0] / wanted[1]))
    return before_left + left, above + top, before_left + right, above + bottom


def _seen(box: Box, wanted: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns the area of an image of `size` that the bicubic filter reads while it resizes a box of it."""
    beyond = [2 * max(1.0, (box[axis + 2] - box[axis]) / wanted[axis]) + 1 for axis in (0, 1)]
    left, top = (max(0, math.floor(box[axis] - beyond[axis])) for axis in (0, 1))
    right, bottom = (min(size[axis], math.ceil(box[axis + 2] + beyond[axis])) for axis in (0, 1))
    return left, top, right, bottom


def _rows(width: int) -> int:
    """Returns the number of rows in a strip."""
    return max(1, TILE // width)


def _in_file(
    area: tuple[int, int, int, int], size: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """Converts an area of the upright image of `size` to the file's coordinates."""
    left, top, right, bottom = area
    if orientation in FROM_RIGHT:
        left, right = size[0] - right, size[0] - left
    if orientation in FROM_BOTTOM:
        top, bottom = size[1] - bottom, size[1] - top
    return (top, left, bottom, right) if orientation in SIDEWAYS else (left, top, right, bottom)


def _is_plain(image: Image.Image, orientation: int, mode: str) -> bool:
    """Returns True if the image is upright and without transparency, in that mode."""
    return orientation == 1 and image.mode == mode and not image.has_transparency_data


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    return image if orientation == 1 else image.transpose(TURNS[orientation])


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """Returns an 8-bit image of the given mode without transparency; the image itself if it is one."""
    if image.mode.startswith("I"):
        samples = np.array(image, np.uint16)
        if (transparent := image.info.get("transparency")) is not None:
            samples[samples == transparent] = 65535
        scaled, rest = np.divmod(samples, np.uint16(257))  # integers need a quarter of floats' memory
        scaled += rest > 128  # rounded
        return Image.fromarray(scaled.astype(np.uint8)).convert(mode)
    if not image.has_transparency_data:
        return image if image.mode == mode else image.convert(mode)
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    if rgba.getchannel("A").getextrema() == (255, 255):  # composing would change nothing
        return rgba.convert(mode)
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert(mode)


def _stored_bytes(size: tuple[int, int], mode: str) -> int:
    """Returns an image's bytes in Pillow's memory: lines of whole 32-bit words, and a pointer to each."""
    width, height = size
    return height * (8 + -(-width * PIXEL_BYTES.get(mode, 4) // 4) * 4)
