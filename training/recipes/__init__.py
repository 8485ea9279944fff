"""Recipes, one file an architecture: defaults, data sets and the bar of the promotion gate.

A file `linear_regression.py` here holds `RECIPES`: the architecture's recipe for each data set it is
tried on, the quickest first; `LONG_RECIPES`, where some take a quarter of an hour or more on a core; and, for
anybody's data, `CSV_RECIPE` where tables are its data, `FOLDER_RECIPE` where images are and no other recipe
will do, `TEXT_RECIPE` where texts are, `TSV_RECIPE` where pairs of texts are, and `CHAT_RECIPE` where
conversations are.
"""

import importlib
import pkgutil
from dataclasses import replace
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter

from training import datasets
from training.datasets import chat_pairs, csv_file, image_folder, pairs, text_file
from training.recipe import Recipe
from zoo.errors import NotFound, ZooError


def names() -> list[str]:
    """All architectures, by name."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def recipes(architecture: str, *, long: bool = True) -> dict[str, Recipe]:
    """The architecture's recipes by data set, the quickest first; `NotFound` lists the architectures.

    Those that take long come last, if at all.
    """
    if architecture not in names():
        raise NotFound(f"there is no architecture {architecture!r}; choose one of {', '.join(names())}")
    module = _module(architecture)
    found: tuple[Recipe, ...] = module.RECIPES + (getattr(module, "LONG_RECIPES", ()) if long else ())
    return {recipe.dataset: recipe for recipe in found}


def recipe_for(architecture: str, dataset: str | None = None) -> Recipe:
    """The recipe to start from: the data set's own, or another one turned to that data set, without its bar.

    The other one is the module's `CSV_RECIPE` for a csv: data set, its `TEXT_RECIPE` for a text: one, its
    `TSV_RECIPE` for a tsv: one, its `CHAT_RECIPE` for a chat: one; its `FOLDER_RECIPE`, or else its quickest
    for images, for an images: one; and the quickest otherwise.
    """
    known = recipes(architecture)
    module, quickest = _module(architecture), next(iter(known.values()))
    if dataset is None:
        return quickest
    if dataset in known:
        return known[dataset]
    other = quickest
    if dataset.startswith(csv_file.PREFIX):
        other = getattr(module, "CSV_RECIPE", quickest)
    elif dataset.startswith(text_file.PREFIX):
        other = getattr(module, "TEXT_RECIPE", quickest)
    elif dataset.startswith(pairs.PREFIX):
        other = getattr(module, "TSV_RECIPE", quickest)
    elif dataset.startswith(chat_pairs.PREFIX):
        other = getattr(module, "CHAT_RECIPE", quickest)
    elif dataset.startswith(image_folder.PREFIX):
        other = getattr(module, "FOLDER_RECIPE", None) or _quickest_for_images(architecture)
    return replace(other, dataset=dataset, bar=None)


def _quickest_for_images(architecture: str) -> Recipe:
    for dataset, recipe in recipes(architecture).items():
        if datasets.find(dataset).kind == image_folder.KIND:
            return recipe
    raise ZooError(f"{architecture} does not learn from images; see `zoo list`")


def _module(architecture: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{architecture.replace('-', '_')}")


def restore(saved: dict[str, Any]) -> Recipe:
    """The recipe of a `recipe.json`."""
    cls = type(recipe_for(saved["architecture"]))
    recipe: Recipe = TypeAdapter(cls).validate_python(saved["recipe"])
    return recipe
