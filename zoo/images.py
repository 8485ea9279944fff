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
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngInfo

from zoo.errors import InputTooLarge, InvalidInput
from zoo.image_headers import Header, jpeg_header, png_header
from zoo.reservation import reserve

MAX_PIXELS = 50_000_000
MAX_PIXELS_TOGETHER = 4 * MAX_PIXELS
"""Of all images of a request: a file of a few kilobytes can take half a second to decode."""
UNCOUNTED = 1 << 16  # pixels of a request for which no memory is reserved: they take less than a megabyte
GAP = 2  # pixels between the images of a grid
# Where Pillow finds an EXIF orientation. Looking for it in an image without any of them takes as long as
# decoding a small image.
ORIENTED = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations in which the file's rows are columns
# Those whose left column, or top row, comes from the end of the file's rows or columns.
FROM_RIGHT, FROM_BOTTOM = (2, 3, 6, 7), (3, 4, 7, 8)
SCALES = (8, 4, 2)  # by which libjpeg can divide the sides
MARGIN = 2  # a scaled crop has at least so many times the wanted sides
GREY = ("1", "L", "LA", "I", "I;16")
TILE = 1 << 18  # pixels that are flattened at one time
TILE_COPIES = 5  # of RGBA: cut out, converted, white, composed, converted back
DECODER_BYTES = 1 << 20  # tables of a decoder
PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2}  # in Pillow's memory; 4 in other modes
URL_ALPHABET = bytes.maketrans(b"-_", b"+/")
Image.MAX_IMAGE_PIXELS = None  # the limit above is checked instead, from the header, as an error


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
    """uint8 [N, H, W, C]; each as of `decode_image`, and `InputTooLarge` past MAX_PIXELS_TOGETHER."""
    headers = [_header(data) for data in files]
    _check_together(headers)
    if sum(header.width * header.height for header in headers) > UNCOUNTED:
        reserve(decoding_bytes(files, height, width, channels))
    images = np.empty((len(files), height, width, channels), np.uint8)
    for image, data in zip(images, files, strict=True):
        image[:] = decode_image(data, height, width, channels)
    return images


def decode_image(data: bytes, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """uint8 [H, W, C]: the largest centred crop of the wanted aspect, resized to the wanted size.

    `InvalidInput` where the bytes are no readable PNG or JPEG, `InputTooLarge` past MAX_PIXELS.
    """
    return _decode(_open(data), height, width, channels)


def decoding_bytes(files: Sequence[bytes], height: int, width: int, channels: int) -> int:
    """Bytes of memory that `decode_images` takes at one time, at most, besides the files; from their headers.

    `InvalidInput` and `InputTooLarge` as `decode_images` raises them, but for what only the pixels show.
    """
    headers = [_header(data) for data in files]
    _check_together(headers)
    largest = max((_peak_bytes(header, height, width, channels) for header in headers), default=0)
    return largest + (len(files) + 2) * height * width * channels  # two: the last one as bytes and resized


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


def _open(data: bytes) -> Image.Image:
    """The image of a file, of which no more than the header is read yet."""
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    except Exception as error:  # Pillow's decoders raise many types on hostile bytes
        raise _unreadable() from error
    _check_size(image.width, image.height)
    return image


def _decode(image: Image.Image, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    whole = image.size
    try:
        scale = _draft(image, height, width, channels)
        image.load()  # an animation's first frame; only now is everything in `info`
        orientation = _orientation(image)
        if orientation != 1:
            ImageOps.exif_transpose(image, in_place=True)
        image = _flatten(image, "L" if channels == 1 or image.mode in GREY else "RGB")
    except Exception as error:  # as above
        raise _unreadable() from error
    if image.size != (width, height):
        box = _box(whole, orientation, scale, image.size, width / height)
        image = image.resize((width, height), Image.Resampling.BICUBIC, box)
    if channels == 3 and image.mode == "L":  # three equal channels are resized alike
        image = image.convert("RGB")
    return np.frombuffer(image.tobytes(), dtype=np.uint8).reshape(height, width, channels)


def _draft(image: Image.Image, height: int, width: int, channels: int) -> int:
    """By how much the sides are divided when the image is decoded, which this sets; 1 where it cannot be."""
    if not isinstance(image, JpegImageFile):
        return 1
    wanted = (height, width) if _orientation(image) in SIDEWAYS else (width, height)
    scale = _scale(image.size, wanted)
    if scale > 1:
        # In grey, libjpeg leaves out the colours. Pillow finds the same scale in the size.
        image.draft("L" if channels == 1 else None, (image.width // scale, image.height // scale))
    return scale


def _scale(size: tuple[int, int], wanted: tuple[int, int]) -> int:
    """By how much the sides of a JPEG may be divided, so that the crop has MARGIN times the wanted ones."""
    left, top, right, bottom = _crop(size, wanted[0] / wanted[1])
    room = min((right - left) / wanted[0], (bottom - top) / wanted[1]) / MARGIN
    return next((scale for scale in SCALES if scale <= room), 1)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation. Of a PNG, only once it is loaded: what says so may come after the pixels."""
    if ORIENTED.isdisjoint(image.info):
        return 1
    orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation


def _crop(size: tuple[int, int], aspect: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the largest centred crop of an aspect, as `ImageOps.fit` has it."""
    width, height = size
    wide, high = float(width), float(height)
    if width / height > aspect:
        wide = aspect * height
    elif width / height < aspect:
        high = width / aspect
    left, top = (width - wide) * 0.5, (height - high) * 0.5
    return left, top, left + wide, top + high


def _box(
    whole: tuple[int, int], orientation: int, scale: int, size: tuple[int, int], aspect: float
) -> tuple[float, float, float, float]:
    """The crop in an image of `size` that was divided by `scale`, then turned upright, of a `whole` file.

    libjpeg rounds a divided side up, so that the file's last column and row hold only a part of a pixel.
    """
    width, height = whole[::-1] if orientation in SIDEWAYS else whole
    before_left = size[0] - width / scale if orientation in FROM_RIGHT else 0.0
    above = size[1] - height / scale if orientation in FROM_BOTTOM else 0.0
    left, top, right, bottom = (edge / scale for edge in _crop((width, height), aspect))
    return before_left + left, above + top, before_left + right, above + bottom


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """8-bit image of the given mode without transparency; the image itself where it is one."""
    if not image.mode.startswith("I") and not image.has_transparency_data:
        return image if image.mode == mode else image.convert(mode)
    flat = Image.new(mode, image.size)
    columns, rows = _tile(image.size)
    # Tile by tile, as what follows takes several copies.
    for top, left in product(range(0, image.height, rows), range(0, image.width, columns)):
        area = left, top, min(left + columns, image.width), min(top + rows, image.height)
        flat.paste(_flatten_tile(image.crop(area), mode), area)
    return flat


def _tile(size: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows of an image's tiles."""
    columns = min(size[0], TILE)
    return columns, min(size[1], TILE // columns)


def _flatten_tile(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        samples = np.array(image, np.uint16)
        if (transparent := image.info.get("transparency")) is not None:
            samples[samples == transparent] = 65535
        scaled, rest = np.divmod(samples, np.uint16(257))  # in integers: a quarter of the memory of floats
        scaled += rest > 128  # rounded
        return Image.fromarray(scaled.astype(np.uint8)).convert(mode)
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    if rgba.getchannel("A").getextrema() == (255, 255):  # composing would change nothing
        return rgba.convert(mode)
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert(mode)


def _header(data: bytes) -> Header:
    """The file's header; of one that is out of the ordinary, what Pillow reads and the worst of the rest."""
    header = png_header(data) or jpeg_header(data)
    if header is None:
        image = _open(data)
        kept = 8 * image.width * image.height  # a JPEG's coefficients, of two bytes, of four components
        scalable = isinstance(image, JpegImageFile)
        header = Header(image.width, image.height, image.mode, scalable, True, not scalable, kept)
    _check_size(header.width, header.height)
    return header


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputTooLarge(f"image: {width} x {height} pixels; at most {MAX_PIXELS:,} are accepted")


def _check_together(headers: Sequence[Header]) -> None:
    if sum(header.width * header.height for header in headers) > MAX_PIXELS_TOGETHER:
        raise InputTooLarge(f"image: at most {MAX_PIXELS_TOGETHER:,} pixels are accepted in all")


def _peak_bytes(header: Header, height: int, width: int, channels: int) -> int:
    """Bytes that `_decode` takes at one time, at most."""
    whole, mode = (header.width, header.height), header.mode
    wanted = [(width, height), (height, width)][: 1 + header.may_turn]  # as the file's pixels may lie
    scale = min(_scale(whole, each) for each in wanted) if header.scalable else 1
    size = -(-whole[0] // scale), -(-whole[1] // scale)
    ways = [size, size[::-1]][: 1 + header.may_turn]

    def stored(mode: str) -> int:
        return max(_stored_bytes(way, mode) for way in ways)

    if scale > 1 and channels == 1:
        mode = "L"
    flat_mode = "L" if channels == 1 or mode in GREY else "RGB"
    in_tiles = header.transparent or mode.startswith("I")
    flat = stored(flat_mode) if in_tiles or mode != flat_mode else 0
    tiles = max(TILE_COPIES * _stored_bytes(_tile(way), "RGBA") for way in ways) if in_tiles else 0
    turned = stored(mode) if header.may_turn else 0
    crops = [_crop(way, width / height) for way in ways]
    lines = math.ceil(max(bottom - top for _, top, _, bottom in crops))  # resized to the width alone
    resized = _stored_bytes((width, lines), flat_mode)
    return (
        DECODER_BYTES
        + header.kept
        + max(stored(mode) + max(turned, flat + tiles), (flat or stored(mode)) + resized)
    )


def _stored_bytes(size: tuple[int, int], mode: str) -> int:
    """Bytes of an image in Pillow's memory: lines of whole 32-bit words, and where each one begins."""
    width, height = size
    return height * (8 + -(-width * PIXEL_BYTES.get(mode, 4) // 4) * 4)


def _unreadable() -> InvalidInput:
    return InvalidInput("image: not a readable PNG or JPEG file")
