"""Data sets, one per file: for example, `fashion_mnist.py` holds the data set `fashion-mnist`."""

import importlib
import pkgutil
from typing import Any

from training.datasets.base import Data, DataSet, few_per_class, hold_out
from zoo.errors import NotFound

_OTHER_FILES = {
    "base",
    "chat_pairs",
    "csv_file",
    "idx",
    "array_cache",
    "image_folder",
    "multi30k",
    "number_words",
    "pairs",
    "published_file",
    "text_file",
    "time_series",
}


def names() -> list[str]:
    """Returns the names of all data sets."""
    stems = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(stem.replace("_", "-") for stem in stems if stem not in _OTHER_FILES)


def find(name: str) -> DataSet:
    """Returns the data set with this name; `NotFound` lists the known names."""
    if name not in names():
        known = ", ".join(names())
        raise NotFound(
            f"there is no data set {name!r}; choose one of {known}, images:PATH, text:PATH, chat:PATH, "
            "tsv:PATH or csv:PATH"
        )
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    dataset: DataSet = module.DATASET
    return dataset


def listing() -> list[dict[str, Any]]:
    """Returns the properties of each data set that are known without loading it."""
    return [
        {
            "dataset": found.name,
            "kind": found.kind,
            "size": found.size,
            "licence": found.licence,
            "source": found.source,
            "present": found.present(),
        }
        for found in map(find, names())
    ]


__all__ = ["Data", "DataSet", "few_per_class", "find", "hold_out", "listing", "names"]
