"""Image files to arrays and back, the same for every task that takes images.

Accepted: PNG and JPEG of any mode. The first frame of an animation; 16-bit samples scaled to 8;
transparency composed over white; EXIF orientation applied. A JPEG that is much larger than wanted is scaled
by libjpeg while it decodes, to at least twice the wanted size: several times as fast as scaling all of its
pixels, in a fraction of the memory, and photographs differ by at most 2 of 255.

Shape legend: N images, H height, W width, C channels (1 grey, 3 RGB).
"""

import binascii
import io
import math
import string
from collections.abc import Mapping, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from zoo.errors import InputTooLarge, InvalidInput
from zoo.image_fitting import fit, mode_of, peak_bytes, scale_of
from zoo.image_headers import (
    MAX_PIXELS,
    MOST_LINE_BYTES,
    MOST_PARTS_TOGETHER,
    MOST_SCANNED,
    Header,
    read_header,
    unreadable,
)
from zoo.operating_system import return_freed_memory
from zoo.reservation import reserve

MAX_PIXELS_TOGETHER, MAX_SCANNED_TOGETHER = 4 * MAX_PIXELS, 4 * MOST_SCANNED
MOST_LINE_BYTES_TOGETHER = 4 * MOST_LINE_BYTES
"""Bounds for all images of a request: a file of a few kilobytes can take seconds to decode."""
UNCOUNTED = 1 << 16  # pixels of a request for which no memory is reserved: they take less than a megabyte
LARGE = 1 << 24  # bytes; of more, glibc keeps some for each thread until it is asked to give it back
GAP = 2  # pixels between the images of a grid
URL_ALPHABET = bytes.maketrans(b"-_", b"+/")
Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS is checked instead, from the header, as an error


def decode_base64(text: str) -> bytes:
    """Bytes of base64 or base64url, or of a `data:...;base64,` URL.

    Line breaks are allowed, and padding may be left out. `InvalidInput` where it is none of these.
    """
    if text[:5].lower() == "data:":
        header, comma, text = text.partition(",")
        if not comma or not header.lower().endswith(";base64"):
            raise InvalidInput("image: a data URL must be base64: data:image/png;base64,...")
    try:
        if len(text) % 4 == 0:  # nearly always the plain form
            return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error is one
        pass
    return _decode_loose_base64(text)


def _decode_loose_base64(text: str) -> bytes:
    """Bytes of base64 with line breaks, of base64url, without padding, or of all of these."""
    try:
        content = text.encode("ascii").translate(None, string.whitespace.encode())
        if not (b"+" in content or b"/" in content):
            content = content.translate(URL_ALPHABET)
        if not content.endswith(b"="):
            content += b"=" * (-len(content) % 4)
        return binascii.a2b_base64(content, strict_mode=True)
    except ValueError:
        raise InvalidInput("image: not valid base64") from None


def decode_images(files: Sequence[bytes], height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """uint8 [N, H, W, C]; each as of `decode_image`.

    `InputTooLarge` past MAX_PIXELS_TOGETHER or MOST_LINE_BYTES_TOGETHER, `InvalidInput` past
    MAX_SCANNED_TOGETHER.
    """
    headers, taken = _headers(files), 0
    if sum(header.width * header.height + header.copied for header in headers) > UNCOUNTED:
        taken = _together_bytes(headers, height, width, channels)
        reserve(taken)
    images = np.empty((len(files), height, width, channels), np.uint8)
    for image, header, data in zip(images, headers, files, strict=True):
        if taken:
            reserve(0)  # a server may end here what is late
        image[:] = _decode(header, data, height, width, channels)
    if taken > LARGE:
        return_freed_memory()
    return images


def decode_image(data: bytes, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """uint8 [H, W, C]: the largest centred crop of the wanted aspect, resized to the wanted size.

    `InvalidInput` where the bytes are no readable PNG or JPEG, `InputTooLarge` past MAX_PIXELS or
    MOST_LINE_BYTES.
    """
    return _decode(read_header(data), data, height, width, channels)


def decoding_bytes(files: Sequence[bytes], height: int, width: int, channels: int) -> int:
    """Bytes of memory that `decode_images` takes at one time, at most, besides the files; from their headers.

    `InvalidInput` and `InputTooLarge` as `decode_images` raises them, but for what only the pixels show.
    """
    return _together_bytes(_headers(files), height, width, channels)


def encode_png(image: NDArray[np.uint8], texts: Mapping[str, str] | None = None) -> bytes:
    """PNG file of uint8 [H, W, C], with texts by keyword."""
    info = PngInfo()
    for keyword, text in ({} if texts is None else texts).items():
        info.add_text(keyword, text)
    buffer = io.BytesIO()
    picture = Image.fromarray(image.squeeze(axis=2) if image.shape[2] == 1 else image)
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def decode_png(data: bytes) -> NDArray[np.uint8]:
    """uint8 [H, W, C] of a file that `encode_png` wrote."""
    pixels = np.asarray(Image.open(io.BytesIO(data), formats=("PNG",)))
    return pixels.reshape(*pixels.shape[:2], -1)


def grid(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """One image of N uint8 [H, W, C], row by row, as near to a square as can be, white between them."""
    count, (height, width, channels) = len(images), images[0].shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cells = np.full((rows * columns, height + GAP, width + GAP, channels), 255, np.uint8)
    cells[:count, :height, :width] = np.stack(images)
    sheet = cells.reshape(rows, columns, height + GAP, width + GAP, channels)
    # [rows, columns, H, W, C] -> [rows · H, columns · W, C], without the gap after the last ones
    sheet = sheet.swapaxes(1, 2).reshape(rows * (height + GAP), columns * (width + GAP), channels)
    return sheet[:-GAP, :-GAP]


def _headers(files: Sequence[bytes]) -> list[Header]:
    """Headers of a request's files; errors where they are too much together."""
    parts = repeat(None, MOST_PARTS_TOGETHER)
    headers = [read_header(data, parts) for data in files]
    if sum(header.width * header.height for header in headers) > MAX_PIXELS_TOGETHER:
        raise InputTooLarge(f"image: at most {MAX_PIXELS_TOGETHER:,} pixels are accepted in all")
    if sum(header.line_bytes for header in headers) > MOST_LINE_BYTES_TOGETHER:
        raise InputTooLarge(
            f"image: the lines of all PNGs may have at most {MOST_LINE_BYTES_TOGETHER:,} bytes; send fewer, "
            "or save them with 8 bits per sample"
        )
    if sum(header.scanned for header in headers) > MAX_SCANNED_TOGETHER:
        raise InvalidInput(
            "image: JPEGs of so many scans take too long; send fewer, or save them as baseline"
        )
    return headers


def _decode(header: Header, data: bytes, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    scale = scale_of(header, (width, height))
    try:
        image: Image.Image = Image.open(io.BytesIO(header.needed(data)), formats=(header.kind,))
        if scale > 1:
            # In grey, libjpeg leaves out the colours. Pillow finds the same scale in the size.
            image.draft("L" if channels == 1 else None, (image.width // scale, image.height // scale))
        image.load()
        image = fit(header, scale, image, (width, height), mode_of(image.mode, channels))
    except Exception as error:  # Pillow raises many types on hostile bytes
        raise unreadable() from error
    if channels == 3 and image.mode == "L":  # three equal channels are resized alike
        image = image.convert("RGB")
    return np.frombuffer(image.tobytes(), dtype=np.uint8).reshape(height, width, channels)


def _together_bytes(headers: Sequence[Header], height: int, width: int, channels: int) -> int:
    largest = max((peak_bytes(header, (width, height), channels) for header in headers), default=0)
    return largest + (len(headers) + 2) * height * width * channels  # two: the last one as bytes and resized
