"""Any folder of PNG and JPEG files, with one subfolder per class, as a data set: `--dataset images:PATH`.

A fifth of the images is held out for testing, unless the folder has subfolders `train` and `test` (or
`val`, `validation`), each with the classes' subfolders; if it has both, `test` is for testing and `val` for
validation. Images are decoded as in the service: the largest centred square, resized. Hidden files and files
with other suffixes are ignored; files that cannot be decoded are left out, with a warning in the log.

Shape legend: N images, S side in pixels.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from training import datasets
from training.datasets.array_cache import cached, file_identity, identity
from training.datasets.base import Data, slug, split_examples
from zoo.errors import InvalidInput, NotFound
from zoo.images import decode_image
from zoo.tasks import Arrays, Schema

log = logging.getLogger(__name__)
PREFIX = "images:"
KIND = "image_classification"
SUFFIXES = (".png", ".jpg", ".jpeg")
NAMED = 3  # maximum number of unreadable files that the warning names
IMAGES_A_CLASS = 5  # on average: a fifth of the images is for testing, and must contain each class


def dataset_name(reference: str) -> str:
    """Returns the data set's name; for a folder, its name in lower case with words joined by hyphens."""
    return slug(_root(reference).name, "images") if reference.startswith(PREFIX) else reference


def load_images(reference: str, size: int) -> Data:
    """Loads the data set with this name, or the folder's images as uint8 [N, S, S, 3] with S = `size`.

    `NotFound` if there is no such folder or no image in it; `InvalidInput` if classes or images are missing.
    """
    if not reference.startswith(PREFIX):
        return datasets.find(reference).load()
    if size < 1:
        raise InvalidInput(f"the side of the images must be at least 1 pixel, not {size}")
    root, name = _root(reference), dataset_name(reference)
    if not root.is_dir():
        raise NotFound(f"there is no folder {root}")
    folders = _splits(root)
    labels = _labels(folders.get("train", root))
    schema = Schema(labels=labels, target="class")
    if not folders:
        whole = _read(root, name, labels, size, least=2)  # one for training, one for testing
        if len(whole["target"]) < IMAGES_A_CLASS * len(labels):
            raise InvalidInput(
                f"{root} has {len(whole['target'])} images of {len(labels)} classes; at least "
                f"{IMAGES_A_CLASS} a class are needed on average"
            )
        return split_examples(name, KIND, schema, root.name, {"image": whole["image"]}, whole["target"])
    splits = {split: _read(folder, name, labels, size, least=1) for split, folder in folders.items()}
    return Data(
        name=name,
        kind=KIND,
        schema=schema,
        source=root.name,
        train=splits["train"],
        test=splits["test"],
        validation=splits.get("validation"),
    )


def _root(reference: str) -> Path:
    return Path(reference.removeprefix(PREFIX)).expanduser().resolve()


def _splits(root: Path) -> dict[str, Path]:
    """Returns the folder of each split; empty if the folder is not split."""
    held_out = [root / name for name in ("test", "val", "validation") if (root / name).is_dir()]
    if not held_out or not (root / "train").is_dir():
        return {}
    return dict(zip(("train", "test", "validation"), (root / "train", *held_out), strict=False))


def _labels(folder: Path) -> tuple[str, ...]:
    """Returns the names of the class subfolders; `InvalidInput` if there are fewer than two."""
    labels = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if len(labels) < 2:
        raise InvalidInput(
            f"{folder} needs a subfolder of images for each of at least 2 classes; it has {labels or 'none'}"
        )
    return tuple(labels)


def _read(folder: Path, name: str, labels: tuple[str, ...], size: int, least: int) -> Arrays:
    """Reads all readable images, class by class; `InvalidInput` if a class has fewer than `least`."""
    if (own := _labels(folder)) != labels:
        raise InvalidInput(f"{folder} must have the same classes as train: {list(labels)}, not {list(own)}")
    files = [(target, path) for target, label in enumerate(labels) for path in _files(folder / label)]
    if not files:
        raise NotFound(f"there are no PNG or JPEG files in the subfolders of {folder}")
    paths = [path for _, path in files]
    listed = [file_identity(path, str(path.relative_to(folder))) for path in paths]
    decoded = cached(f"{name}-{identity([str(size), *listed])}", lambda: _decode(paths, size))
    readable = decoded["readable"]
    if not readable.all():
        unreadable = [
            path.relative_to(folder).as_posix() for path, ok in zip(paths, readable, strict=True) if not ok
        ]
        more = ", ..." if len(unreadable) > NAMED else ""
        log.warning(
            "%s: left out %d of %d files, which are no readable PNG or JPEG images: %s%s",
            folder,
            len(unreadable),
            len(files),
            ", ".join(unreadable[:NAMED]),
            more,
        )
    target = np.array([target for target, _ in files], dtype=np.int64)[readable]
    counts = np.bincount(target, minlength=len(labels))
    if counts.min() < least:
        raise InvalidInput(
            f"class {labels[counts.argmin()]!r} has {counts.min()} readable PNG or JPEG images in {folder}; "
            f"at least {least} are needed"
        )
    return {"image": decoded["image"], "target": target}


def _files(folder: Path) -> list[Path]:
    """Returns the image files at any depth, sorted by path."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _decode(paths: list[Path], size: int) -> Arrays:
    """Returns `image` uint8 [N, S, S, 3] of the readable files, and the mask `readable`, bool [files]."""
    log.info("decoding %d images, once", len(paths))
    image = np.empty((len(paths), size, size, 3), dtype=np.uint8)

    def decode(row: int) -> bool:
        try:
            image[row] = decode_image(paths[row].read_bytes(), size, size, 3)
        except (InvalidInput, OSError) as error:
            log.info("%s is left out: %s", paths[row], error)
            return False
        return True

    with ThreadPoolExecutor() as pool:  # Pillow's decoders and resizing run outside the interpreter lock
        readable = np.array(list(pool.map(decode, range(len(paths)))))
    return {"image": image[readable], "readable": readable}
