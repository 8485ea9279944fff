"""EXIF orientation of an image, read from the blocks of a file that may hold it.

Only one number is needed. Pillow would read whole blocks into Python objects, and warn of each invalid tag:
thousands in a few kilobytes.
"""

import re
import struct
import zlib

MOST_BYTES = 1 << 16
"""Maximum number of bytes of a block that are read: the capacity of a JPEG segment."""
TAG = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # orientations in which the file's rows are columns
FORMS = {3: "H", 4: "I"}  # struct formats by the type of a tag; the standard's is 3
XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


def orientation(exif: bytes, xmp: bytes) -> int:
    """Returns the orientation, 1 to 8, from EXIF, or else from XMP; 1 if neither has one."""
    if found := _in_exif(exif):
        return found
    said = XMP.search(xmp)
    return 1 if said is None else int(said[1])


def text_of(kind: bytes, content: bytes) -> bytes:
    """Returns the text of a PNG's tEXt, zTXt or iTXt chunk, without its keyword.

    Of a compressed text, returns at most the first MOST_BYTES; empty if it cannot be decompressed.
    """
    text = content.partition(b"\0")[2]
    compressed = kind == b"zTXt" or (kind == b"iTXt" and text[:1] == b"\1")
    text = text[1:] if kind == b"zTXt" else text[2:].split(b"\0", 2)[-1] if kind == b"iTXt" else text
    try:
        return zlib.decompressobj().decompress(text, MOST_BYTES) if compressed else text
    except zlib.error:
        return b""


def exif_of_profile(text: bytes) -> bytes:
    """Returns the EXIF block in a text `Raw profile type exif`: a name, a length, and hexadecimal digits."""
    digits = b"".join(text.split(b"\n")[3:])
    try:
        return bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    except ValueError:
        return b""


def _in_exif(block: bytes) -> int | None:
    """Returns the orientation in the first directory of a TIFF structure; None if there is none."""
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(f"{order}I", block, 4)
        (tags,) = struct.unpack_from(f"{order}H", block, directory)
        for place in range(directory + 2, directory + 2 + 12 * tags, 12):
            tag, form = struct.unpack_from(f"{order}HH", block, place)
            if tag == TAG and form in FORMS:
                (value,) = struct.unpack_from(order + FORMS[form], block, place + 8)
                return value if 1 <= value <= 8 else None
    except struct.error:  # it ends too early
        pass
    return None
