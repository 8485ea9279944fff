"""Recipes, one file an architecture: defaults, data sets and the bar of the promotion gate.

A file `linear_regression.py` here holds `RECIPES`: the architecture's recipe for each data set it is
tried on, the quickest first; and, where tables are its data, `CSV_RECIPE` for anybody's.
"""

import importlib
import pkgutil
from dataclasses import replace
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter

from training.datasets.csv_file import PREFIX
from training.recipe import Recipe
from zoo.errors import NotFound


def names() -> list[str]:
    """All architectures, by name."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def recipes(architecture: str) -> dict[str, Recipe]:
    """The architecture's recipes by data set, the quickest first; `NotFound` lists the architectures."""
    if architecture not in names():
        raise NotFound(f"there is no architecture {architecture!r}; choose one of {', '.join(names())}")
    found: tuple[Recipe, ...] = _module(architecture).RECIPES
    return {recipe.dataset: recipe for recipe in found}


def recipe_for(architecture: str, dataset: str | None = None) -> Recipe:
    """The recipe to start from: the data set's own, or another one turned to that data set, without its bar.

    The other one is the module's `CSV_RECIPE` for a csv: data set, and the quickest otherwise.
    """
    known = recipes(architecture)
    if dataset is None:
        return next(iter(known.values()))
    if dataset in known:
        return known[dataset]
    module, quickest = _module(architecture), next(iter(known.values()))
    other = getattr(module, "CSV_RECIPE", quickest) if dataset.startswith(PREFIX) else quickest
    return replace(other, dataset=dataset, bar=None)


def _module(architecture: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{architecture.replace('-', '_')}")


def restore(saved: dict[str, Any]) -> Recipe:
    """The recipe of a `recipe.json`."""
    cls = type(recipe_for(saved["architecture"]))
    recipe: Recipe = TypeAdapter(cls).validate_python(saved["recipe"])
    return recipe
