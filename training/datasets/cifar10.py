"""CIFAR-10: 50,000 photographs of animals and vehicles, 32x32 pixels in colour.

Source: Krizhevsky (2009), "Learning Multiple Layers of Features from Tiny Images". The 50,000 are its
training images; a tenth of each class is held out for testing, so figures are only roughly comparable with
published ones. Two sources are accepted: an archive of JPEG files (`cifar10/train/CLASS/NNNNN.jpg`), which
are lossy copies, and torchvision's lossless images.

Shape legend: N images.
"""

import logging
import lzma
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.array_cache import cached, file_identity, identity
from training.datasets.base import Data, DataSet, split_examples
from zoo.errors import InvalidInput, NotFound
from zoo.home import data_directories, download_directory
from zoo.images import decode_image
from zoo.tasks import Arrays, Schema

log = logging.getLogger(__name__)
NAME = "cifar10"
KIND = "image_classification"
ARCHIVE = "cifar10-jpeg-train.tar.xz"
TORCHVISION = "cifar-10-batches-py"
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
TEST_SHARE = 0.1


def load() -> Data:
    """Loads 45,000 training and 5,000 test images uint8 [32, 32, 3]; fetches them if they are missing."""
    archive = _found(ARCHIVE)
    if archive is not None:
        key = identity([file_identity(archive, archive.name)])
        arrays = cached(f"{NAME}-{key}", lambda: _from_archive(archive))
        source = "CIFAR-10 (JPEG), Krizhevsky 2009, lossy copies"
    else:
        arrays = _from_torchvision()
        source = "Krizhevsky 2009, fetched by torchvision"
    schema = Schema(labels=LABELS, target="object")
    inputs = {"image": arrays["image"]}
    return split_examples(NAME, KIND, schema, source, inputs, arrays["target"], TEST_SHARE)


def is_present() -> bool:
    """Returns True if one of the two sources is in a data directory."""
    return _found(ARCHIVE) is not None or _found(TORCHVISION) is not None


def _found(name: str) -> Path | None:
    return next((root / name for root in data_directories() if (root / name).exists()), None)


def _from_archive(path: Path) -> Arrays:
    """Reads the images of the archive, ordered by class and file name."""
    log.info("decoding %s, once", path)
    images: dict[tuple[int, str], NDArray[np.uint8]] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file, content = PurePosixPath(member.name), archive.extractfile(member)  # None for a folder
                if content is not None and file.suffix == ".jpg":
                    key = LABELS.index(file.parent.name), file.name
                    images[key] = decode_image(content.read(), SIDE, SIDE, 3)
        if len({label for label, _ in images}) < len(LABELS):
            raise ValueError("classes are missing")
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError, InvalidInput) as error:
        raise InvalidInput(
            f"{path} is no readable archive of cifar10/train/CLASS/NNNNN.jpg with the classes "
            f"{', '.join(LABELS)} ({error})"
        ) from error
    ordered = sorted(images)
    target = np.array([label for label, _ in ordered], dtype=np.int64)
    return {"image": np.array([images[key] for key in ordered]), "target": target}


def _from_torchvision() -> Arrays:
    from torchvision.datasets import CIFAR10

    batches = _found(TORCHVISION)
    if batches is None:
        root = download_directory()
        log.info("fetching CIFAR-10 into %s", root)
    else:
        root = batches.parent
    try:
        split: Any = CIFAR10(root, train=True, download=batches is None)  # verifies each file's checksum
    except (OSError, RuntimeError) as error:
        raise NotFound(
            f"{NAME} is not in {' or '.join(map(str, data_directories()))} and could not be fetched "
            f"({error}); put {ARCHIVE} or torchvision's folder {TORCHVISION} there, or point ZOO_DATA to it"
        ) from error
    target: NDArray[np.int64] = np.array(split.targets, dtype=np.int64)
    return {"image": split.data, "target": target}


DATASET = DataSet(
    NAME,
    KIND,
    "50,000 images 32x32",
    "not stated",
    "Krizhevsky 2009, a JPEG archive or fetched by torchvision",
    load,
    is_present,
)
