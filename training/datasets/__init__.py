"""Data sets, one file each; a file `fashion_mnist.py` here is the data set `fashion-mnist`."""

import importlib
import pkgutil

from training.datasets.base import Data, DataSet, hold_out
from zoo.errors import NotFound

_OTHER_FILES = {"base", "csv_file", "idx"}


def names() -> list[str]:
    """All data sets' names."""
    stems = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(stem.replace("_", "-") for stem in stems if stem not in _OTHER_FILES)


def find(name: str) -> DataSet:
    """The data set of that name; `NotFound` lists those there are."""
    if name not in names():
        raise NotFound(f"there is no data set {name!r}; choose one of {', '.join(names())}, or csv:PATH")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    dataset: DataSet = module.DATASET
    return dataset


__all__ = ["Data", "DataSet", "find", "hold_out", "names"]
