"""Converts image files to arrays and back, in the same way for every task that takes images.

Accepts PNG and JPEG of any mode. Takes the first frame of an animation, scales 16-bit samples to 8, composes
transparency over white, and applies the EXIF orientation. A JPEG that is much larger than wanted is scaled by
libjpeg while it decodes, to at least twice the wanted size: several times as fast as scaling all of its
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
"""Limits for all images of a request together: a file of a few kilobytes can take seconds to decode."""
UNCOUNTED = 1 << 16  # pixels of a request up to which no memory is reserved: they take less than a megabyte
LARGE = 1 << 24  # bytes; above this, glibc keeps some freed memory per thread until malloc_trim is called
GAP = 2  # pixels between the images of a grid
URL_ALPHABET = bytes.maketrans(b"-_", b"+/")
Image.MAX_IMAGE_PIXELS = None  # instead, `read_header` raises past MAX_PIXELS


def decode_base64(text: str) -> bytes:
    """Decodes base64, base64url, or a `data:...;base64,` URL.

    Line breaks are allowed, and padding may be left out. `InvalidInput` if the text is none of these.
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
    """Decodes base64 that may have line breaks, base64url's alphabet, or no padding."""
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
    """Decodes files to uint8 [N, H, W, C], each as in `decode_image`.

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
            reserve(0)  # lets a server end a request that is late
        image[:] = _decode(header, data, height, width, channels)
    if taken > LARGE:
        return_freed_memory()
    return images


def decode_image(data: bytes, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Decodes a file to uint8 [H, W, C]: the largest centred crop of that aspect, resized to that size.

    `InvalidInput` if the bytes are no readable PNG or JPEG, `InputTooLarge` past MAX_PIXELS or
    MOST_LINE_BYTES.
    """
    return _decode(read_header(data), data, height, width, channels)


def decoding_bytes(files: Sequence[bytes], height: int, width: int, channels: int) -> int:
    """Returns the maximum memory in bytes that `decode_images` takes, besides the files; reads only headers.

    Raises the `InvalidInput` and `InputTooLarge` of `decode_images` that the headers suffice to detect.
    """
    return _together_bytes(_headers(files), height, width, channels)


def encode_png(image: NDArray[np.uint8], texts: Mapping[str, str] | None = None) -> bytes:
    """Encodes uint8 [H, W, C] as a PNG file; `texts` are stored by keyword."""
    info = PngInfo()
    for keyword, text in ({} if texts is None else texts).items():
        info.add_text(keyword, text)
    buffer = io.BytesIO()
    picture = Image.fromarray(image.squeeze(axis=2) if image.shape[2] == 1 else image)
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def decode_png(data: bytes) -> NDArray[np.uint8]:
    """Decodes a file that `encode_png` wrote to uint8 [H, W, C]."""
    pixels = np.asarray(Image.open(io.BytesIO(data), formats=("PNG",)))
    return pixels.reshape(*pixels.shape[:2], -1)


def grid(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Arranges N images, uint8 [H, W, C], row by row in a nearly square grid with white gaps."""
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
    """Reads the headers of a request's files; raises if they exceed the limits for a request."""
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
    if channels == 3 and image.mode == "L":  # afterwards: three equal channels would give the same result
        image = image.convert("RGB")
    return np.frombuffer(image.tobytes(), dtype=np.uint8).reshape(height, width, channels)


def _together_bytes(headers: Sequence[Header], height: int, width: int, channels: int) -> int:
    largest = max((peak_bytes(header, (width, height), channels) for header in headers), default=0)
    return largest + (len(headers) + 2) * height * width * channels  # 2: the last image as bytes, and resized
