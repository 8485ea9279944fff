"""Recipes, one file per architecture: defaults, data sets and the bar of the promotion gate.

A file such as `linear_regression.py` holds `RECIPES`: the architecture's recipe for each of its data sets,
the quickest first. `LONG_RECIPES` are those that take a quarter of an hour or more on one core. For user data
there may be `CSV_RECIPE` for tables, `FOLDER_RECIPE` for images if none of the other recipes fits,
`TEXT_RECIPE` for texts, `TSV_RECIPE` for pairs of texts, and `CHAT_RECIPE` for conversations.
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
    """Returns the names of all architectures."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def recipes(architecture: str, *, long: bool = True) -> dict[str, Recipe]:
    """Returns an architecture's recipes by data set, the quickest first; `NotFound` lists the architectures.

    The long recipes come last, and only if `long` is True.
    """
    if architecture not in names():
        raise NotFound(f"there is no architecture {architecture!r}; choose one of {', '.join(names())}")
    module = _module(architecture)
    found: tuple[Recipe, ...] = module.RECIPES + (getattr(module, "LONG_RECIPES", ()) if long else ())
    return {recipe.dataset: recipe for recipe in found}


def recipe_for(architecture: str, dataset: str | None = None) -> Recipe:
    """Returns the recipe for a data set, or another recipe with that data set and without its bar.

    The other recipe is the module's `CSV_RECIPE` for a csv: data set, `TEXT_RECIPE` for text:, `TSV_RECIPE`
    for tsv:, `CHAT_RECIPE` for chat:, and for images: its `FOLDER_RECIPE` or else the quickest for images. If
    the module has none of these, and in all other cases, it is the quickest recipe.
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
    """Returns the recipe saved in a `recipe.json`."""
    cls = type(recipe_for(saved["architecture"]))
    recipe: Recipe = TypeAdapter(cls).validate_python(saved["recipe"])
    return recipe
