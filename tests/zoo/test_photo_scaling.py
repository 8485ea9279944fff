"""Photos that libjpeg scales while it decodes, against the same photos decoded whole and then scaled."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.Image import Transpose

from zoo.image_fitting import TILE
from zoo.images import decode_image, decode_images

ORIENTATIONS = {  # EXIF value: how a camera that was held so stores what is upright
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}
LEVELS = 2  # of 255 by which a scaled photo may differ
NOISE_LEVELS = 8
"""By which noise two pixels wide may: each direction rounds, and Pillow begins with either one."""
RANDOM = np.random.default_rng(0)


def photo(width: int, height: int) -> Image.Image:
    """Random shapes of all sizes, the larger the stronger, as in photographs; brighter to the lower right."""
    down, right = np.mgrid[0:1:height * 1j, 0:1:width * 1j]  # fmt: skip
    picture = np.repeat(100 * (down + right)[..., None], 3, axis=2)
    shapes = 4
    while shapes <= 2 * max(width, height):
        rows, columns = (max(1, shapes * side // max(width, height)) for side in (height, width))
        noise = Image.fromarray(RANDOM.integers(0, 256, (rows, columns, 3), dtype=np.uint8))
        picture += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)) / shapes**0.7 - 16
        shapes *= 2
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def file_of(image: Image.Image, kind: str = "JPEG", orientation: int = 1, **options: object) -> bytes:
    """The file that a camera would write which is held as the orientation says."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = ORIENTATIONS[orientation]
    buffer = io.BytesIO()
    (image if stored is None else image.transpose(stored)).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


def decoded_whole(data: bytes, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """The image that `decode_image` should give, by Pillow alone: decoded whole, turned, then scaled."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    mode = "L" if channels == 1 else "RGB"
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    fitted = ImageOps.fit(image.convert(mode), (width, height), Image.Resampling.BICUBIC)
    return np.asarray(fitted).reshape(height, width, channels)


def difference(data: bytes, height: int, width: int, channels: int) -> int:
    ours = decode_image(data, height, width, channels).astype(np.int16)
    assert ours.shape == (height, width, channels)
    return int(np.abs(ours - decoded_whole(data, height, width, channels)).max())


WANTED = [(28, 28, 1), (28, 100, 3), (100, 28, 1), (3, 5, 3), (1, 1, 1), (128, 128, 3)]
SIZES = [(471, 625), (1009, 83), (61, 899)]
PHOTOS = {size: photo(*size) for size in SIZES}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_of_odd_sizes(size: tuple[int, int], orientation: int) -> None:
    data = file_of(PHOTOS[size], orientation=orientation)
    for wanted in WANTED:
        assert difference(data, *wanted) <= LEVELS, wanted


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"quality": 40}], ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg(mode: str, options: dict[str, object]) -> None:
    data = file_of(PHOTOS[471, 625].convert(mode), orientation=6, **options)
    for wanted in WANTED:
        assert difference(data, *wanted) <= LEVELS, wanted


def test_the_first_of_a_camera_s_two_pictures() -> None:
    first, second = PHOTOS[471, 625], Image.new("RGB", (471, 625))
    buffer = io.BytesIO()
    first.save(buffer, "MPO", save_all=True, append_images=[second])
    assert difference(buffer.getvalue(), 32, 32, 3) <= LEVELS


def test_a_truncated_photo_is_still_refused() -> None:
    data = file_of(PHOTOS[471, 625])
    with pytest.raises(Exception, match="not a readable PNG or JPEG file"):
        decode_image(data[: len(data) // 2], 28, 28, 3)


def test_many_photos_come_in_order() -> None:
    files = [file_of(PHOTOS[size]) for size in SIZES]
    expected = [decode_image(data, 32, 32, 3) for data in files]
    assert np.array_equal(decode_images(files, 32, 32, 3), expected)


# Where nothing can be scaled while it decodes, no pixel changes.

SMALL = {"wide": photo(75, 52), "tall": photo(41, 87), "wanted": photo(28, 28)}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("shape", SMALL)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_cannot_be_scaled_is_exact(kind: str, shape: str, orientation: int) -> None:
    modes = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA"), "JPEG": ("L", "RGB", "CMYK")}[kind]
    picture = SMALL[shape].copy()
    if kind == "PNG":
        picture.putalpha(SMALL[shape].convert("L"))
    for mode in modes:
        data = file_of(picture.convert(mode), kind, orientation)
        for wanted in [(28, 28, 1), (28, 28, 3), (20, 50, 3), (60, 40, 1)]:
            assert difference(data, *wanted) == 0, (mode, wanted)


@pytest.mark.parametrize(("mode", "clear"), [("L", 90), ("P", 3), ("RGB", (90, 90, 90))])
def test_what_is_transparent_by_its_colour_is_exact(mode: str, clear: object) -> None:
    image = Image.fromarray(RANDOM.integers(88, 93, (50, 60, 3), dtype=np.uint8)).convert(mode)
    data = file_of(image, "PNG", transparency=clear)
    for channels in (1, 3):
        assert difference(data, 28, 28, channels) == 0


@pytest.mark.parametrize("size", [(500, 400), (600, 500), (TILE + 1, 2), (2, TILE + 1), (100, 9000)], ids=str)
def test_what_is_flattened_in_several_tiles(size: tuple[int, int]) -> None:
    """Pillow rounds after each direction, and begins with the height where that is cheaper."""
    samples = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 2), dtype=np.uint8)
    samples[samples.shape[0] // 2 :, samples.shape[1] // 2 :, 1] = 255  # no transparency in some tiles
    image = Image.fromarray(samples, "LA")
    for orientation in ORIENTATIONS:
        data = file_of(image, "PNG", orientation, compress_level=1)
        for wanted in [(28, 28, 1), (28, 28, 3), (20, 50, 1)]:
            most = 0 if size[0] * size[1] <= TILE else NOISE_LEVELS
            assert difference(data, *wanted) <= most, (orientation, wanted)
