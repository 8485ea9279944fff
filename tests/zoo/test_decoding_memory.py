"""Memory that decoding takes, as the headers tell it and as a process of its own measures it."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from requirement import require

from zoo.errors import InputTooLarge, InvalidInput
from zoo.image_headers import MAX_PIXELS
from zoo.images import decode_images, decoding_bytes
from zoo.reservation import Reserving

MEGABYTE = 1_000_000
CLEAR = Path("/proc/self/clear_refs")  # Linux: lets the highest memory be measured anew
MEASURE = """
import io, json, sys
from pathlib import Path
from PIL import Image
from zoo.images import decode_images

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

for kind, mode in (("JPEG", "RGB"), ("PNG", "RGBA")):  # what is loaded once
    buffer = io.BytesIO()
    Image.new(mode, (600, 600)).save(buffer, kind)
    decode_images([buffer.getvalue()], 28, 28, 3)
taken = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    data = path.read_bytes()
    for channels, side in ((1, 28), (3, 224)):
        Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmRSS")
        decode_images([data], side, side, channels)
        taken[f"{path.name} {channels}"] = memory("VmHWM") - before
print(json.dumps(taken))
"""


def file_of(mode: str, size: tuple[int, int], kind: str, turned: bool = False, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image = Image.new(mode, size)
    image.save(buffer, kind, **options, **({"exif": exif} if turned else {}))
    return buffer.getvalue()


def in_scans(data: bytes) -> bytes:
    """The JPEG with the header of a scan that has one component of several."""
    at = data.index(b"\xff\xda")
    return data[:at] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + data[at + 14 :]


def png(size: tuple[int, int], *chunks: tuple[bytes, bytes]) -> bytes:
    """Header of a grey PNG, followed by chunks."""
    header = (b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    parts = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in (header, *chunks)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


LARGE = (1800, 1300)
FILES = {
    "baseline.jpg": file_of("RGB", (7000, 7000), "JPEG"),
    "turned.jpg": file_of("RGB", LARGE, "JPEG", turned=True),
    "progressive.jpg": file_of("RGB", LARGE, "JPEG", progressive=True),
    "cmyk.jpg": file_of("CMYK", LARGE, "JPEG", progressive=True),
    "wide.jpg": file_of("RGB", (60_000, 70), "JPEG"),
    **{f"{mode}.png": file_of(mode, LARGE, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    "turned.png": file_of("RGB", LARGE, "PNG", turned=True),
    "turned rgba.png": file_of("RGBA", LARGE, "PNG", turned=True),
    "transparent.png": file_of("P", LARGE, "PNG", transparency=3),
    "wide.png": file_of("RGB", (4_000_000, 1), "PNG"),
    "tall.png": file_of("RGBA", (1, 1_000_000), "PNG"),
}


def test_the_headers_tell_what_is_taken(tmp_path: Path) -> None:
    require(CLEAR.exists(), "Linux, which tells and resets the peak of a process's memory")
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    # The C library gives every image's memory back at once, so that the next one's is seen.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", MEASURE, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout)
    told = {
        f"{name} {channels}": decoding_bytes([data], side, side, channels)
        for name, data in FILES.items()
        for channels, side in ((1, 28), (3, 224))
    }
    assert taken.keys() == told.keys()
    low = {name: (taken[name], told[name]) for name in taken if taken[name] > told[name]}
    assert low == {}, "more is taken than was told"
    # A few megabytes are for lines of pixels, which a decoder may not need all.
    most = {name: 1.25 * taken[name] + 6 * MEGABYTE for name in taken}
    high = {name: (taken[name], told[name]) for name in taken if told[name] > most[name]}
    assert high == {}, "much more is told than is taken"
    assert taken["baseline.jpg 1"] < 4 * MEGABYTE, "49 megapixels that are scaled while they are decoded"
    assert taken["baseline.jpg 3"] < 8 * MEGABYTE


def test_a_photo_that_is_scaled_takes_little() -> None:
    assert decoding_bytes([FILES["baseline.jpg"]], 28, 28, 1) < 4 * MEGABYTE
    assert decoding_bytes([FILES["baseline.jpg"]], 224, 224, 3) < 8 * MEGABYTE
    assert decoding_bytes([FILES["progressive.jpg"]], 28, 28, 1) > 2 * 1.5 * LARGE[0] * LARGE[1], (
        "coefficients"
    )


def test_components_in_scans_of_their_own_are_kept_whole() -> None:
    data = file_of("RGB", LARGE, "JPEG", subsampling=0)
    whole = decoding_bytes([data], 28, 28, 3)
    assert decoding_bytes([in_scans(data)], 28, 28, 3) > whole + 6 * LARGE[0] * LARGE[1]


def test_work_that_is_late_ends_before_the_next_image() -> None:
    asked = []

    def grant(size: int) -> None:
        asked.append(size)
        if asked.count(0) == 2:
            raise TimeoutError

    with Reserving(grant), pytest.raises(TimeoutError):
        decode_images([FILES["L.png"]] * 9, 28, 28, 1)
    assert asked == [decoding_bytes([FILES["L.png"]] * 9, 28, 28, 1), 0, 0]


def test_several_files_are_decoded_one_after_another() -> None:
    small, large = FILES["L.png"], FILES["RGBA.png"]
    both = decoding_bytes([small, large, small], 28, 28, 1)
    assert both == decoding_bytes([large], 28, 28, 1) + 2 * 28 * 28
    assert decoding_bytes([], 28, 28, 1) == 2 * 28 * 28


def test_what_is_left_out_counts_as_a_copy_of_the_rest() -> None:
    data = FILES["turned.jpg"]
    padded = data[:2] + b"\xff" + data[2:]  # any marker may be preceded by fill bytes
    assert np.array_equal(decode_images([padded], 8, 8, 1), decode_images([data], 8, 8, 1))
    assert abs(decoding_bytes([padded], 8, 8, 1) - decoding_bytes([data], 8, 8, 1)) < len(data)


def test_a_turned_image_takes_no_copy() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    body = zlib.compress(bytes(1300 * 1801))
    plain = png(LARGE, (b"IDAT", body), (b"IEND", b""))
    turned = png(LARGE, (b"IDAT", body), (b"eXIf", exif.tobytes()[6:]), (b"IEND", b""))
    upright = decoding_bytes([plain], 28, 28, 1)
    assert upright < decoding_bytes([turned], 28, 28, 1) < upright + 6 * MEGABYTE


@pytest.mark.parametrize("side", [8000, 30_000, 2**31 - 1])
def test_too_many_pixels(side: int) -> None:
    with pytest.raises(InputTooLarge, match=f"{side} x {side} pixels"):
        decoding_bytes([png((side, side))], 28, 28, 1)


def test_too_many_pixels_together() -> None:
    largest = png((MAX_PIXELS, 1))
    assert decoding_bytes([largest] * 4, 28, 28, 1) > MAX_PIXELS
    for look in (decoding_bytes, decode_images):
        with pytest.raises(InputTooLarge, match="200,000,000 pixels are accepted in all"):
            look([largest] * 5, 28, 28, 1)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\0\0"])
def test_what_is_no_image(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="not a readable PNG or JPEG file"):
        decoding_bytes([data], 28, 28, 1)
