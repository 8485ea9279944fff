"""MNIST and its drop-in replacements: IDX files, read and fetched by torchvision.

torchvision knows each set's mirrors and checksums. Shape legend: N images.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from training.datasets.base import Data
from zoo.errors import NotFound
from zoo.home import data_directories, download_directory
from zoo.tasks import Arrays, Schema

log = logging.getLogger(__name__)


def is_present(torchvision_name: str) -> bool:
    """Returns True if the files are in one of the data directories."""
    return _found(torchvision_name) is not None


def load_idx(name: str, torchvision_name: str, labels: tuple[str, ...], source: str) -> Data:
    """Loads 60,000 training and 10,000 test images uint8 [28, 28, 1]; fetches them if they are missing."""
    from torchvision import datasets

    reader = getattr(datasets, torchvision_name)
    root = _found(torchvision_name)
    if root is None:
        root = download_directory()
        log.info("fetching %s into %s", torchvision_name, root)
        try:
            reader(root, download=True)
        except (OSError, RuntimeError) as error:
            raise NotFound(
                f"{name} is not in {' or '.join(map(str, data_directories()))} and could not be fetched "
                f"({error}); put its four files under {torchvision_name}/raw/ and point ZOO_DATA there"
            ) from error
    return Data(
        name=name,
        kind="image_classification",
        schema=Schema(labels=labels, target="class"),
        source=source,
        train=_arrays(reader(root, train=True)),
        test=_arrays(reader(root, train=False)),
    )


def _found(torchvision_name: str) -> Path | None:
    stem = Path(torchvision_name) / "raw" / "train-images-idx3-ubyte"
    for root in data_directories():
        if (root / stem).exists() or (root / f"{stem}.gz").exists():
            return root
    return None


def _arrays(split: Any) -> Arrays:
    return {"image": split.data.numpy()[..., None], "target": split.targets.numpy().astype(np.int64)}
