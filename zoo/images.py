"""Image files to arrays and back, the same for every task that takes images.

Accepted: PNG and JPEG of any mode. The first frame of an animation; 16-bit samples scaled to 8;
transparency composed over white; EXIF orientation applied.

Shape legend: N images, H height, W width, C channels (1 grey, 3 RGB).
"""

import base64
import binascii
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from zoo.errors import InputTooLarge, InvalidInput

MAX_PIXELS = 50_000_000
MAX_PIXELS_TOGETHER = 4 * MAX_PIXELS
"""Of all images of a request: a file of a few kilobytes can take half a second to decode."""
GAP = 2  # pixels between the images of a grid
# Where Pillow finds an EXIF orientation. Looking for it in an image without any of them takes as long as
# decoding a small image.
ORIENTED = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})
Image.MAX_IMAGE_PIXELS = None  # the limit above is checked instead, from the header, as an error


def decode_base64(text: str) -> bytes:
    """Bytes of base64 (line breaks allowed) or of a `data:...;base64,` URL."""
    if text.startswith("data:"):
        header, _, text = text.partition(",")
        if not header.endswith(";base64"):
            raise InvalidInput("image: a data URL must be base64: data:image/png;base64,...")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("image: not valid base64") from None


def decode_images(files: Sequence[bytes], height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """uint8 [N, H, W, C]; each as of `decode_image`, and `InputTooLarge` past MAX_PIXELS_TOGETHER."""
    images = [_open(data) for data in reversed(files)]
    if sum(image.width * image.height for image in images) > MAX_PIXELS_TOGETHER:
        raise InputTooLarge(f"image: at most {MAX_PIXELS_TOGETHER:,} pixels are accepted in all")
    # Taken from the list, so that an image's pixels are gone before the next one's are there.
    return np.array([_decode(images.pop(), height, width, channels) for _ in files])


def decode_image(data: bytes, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """uint8 [H, W, C]: the largest centred crop of the wanted aspect, resized to the wanted size.

    `InvalidInput` where the bytes are no readable PNG or JPEG, `InputTooLarge` past MAX_PIXELS.
    """
    return _decode(_open(data), height, width, channels)


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


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """8-bit image of the given mode without transparency."""
    if image.mode.startswith("I"):
        samples = np.array(image, np.uint16)
        if (transparent := image.info.get("transparency")) is not None:
            samples[samples == transparent] = 65535
        scaled, rest = np.divmod(samples, np.uint16(257))  # in integers: a quarter of the memory of floats
        scaled += rest > 128  # rounded
        return Image.fromarray(scaled.astype(np.uint8)).convert(mode)
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert(mode)
    return image.convert(mode)


def _open(data: bytes) -> Image.Image:
    """The image of a file, of which no more than the header is read yet."""
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    except Exception as error:  # Pillow's decoders raise many types on hostile bytes
        raise _unreadable() from error
    if image.width * image.height > MAX_PIXELS:
        raise InputTooLarge(
            f"image: {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are accepted"
        )
    return image


def _decode(image: Image.Image, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    try:
        image.load()  # an animation's first frame; only now is everything in `info`
        if not ORIENTED.isdisjoint(image.info):
            image = ImageOps.exif_transpose(image)
        image = _flatten(image, "L" if channels == 1 else "RGB")
    except Exception as error:  # as above
        raise _unreadable() from error
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    return np.frombuffer(image.tobytes(), dtype=np.uint8).reshape(height, width, channels)


def _unreadable() -> InvalidInput:
    return InvalidInput("image: not a readable PNG or JPEG file")
