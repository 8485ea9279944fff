"""Trainings side by side: in which order, and how an interrupted one goes on."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from training import tracking
from training.recipes import recipe_for
from training.side_by_side import interrupted, ready, train_side_by_side
from zoo.errors import InvalidInput
from zoo.home import home as home_of


def test_what_others_need_is_trained_before_them() -> None:
    gan, judge, other = (recipe_for(name) for name in ("gan", "lenet5", "mlp"))
    assert ready([gan, judge, other], []) is judge
    assert ready([gan, other], [judge]) is other
    assert ready([gan], [judge]) is None
    assert ready([gan], []) is gan


def test_no_workers_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 1, not 0"):
        train_side_by_side([], workers=0)


def test_interrupted_run_is_found_by_its_recipe(home: Path) -> None:
    recipe = replace(recipe_for("alexnet", "fashion-mnist"), batch_size=100)
    measured = replace(recipe, precision="bf16-mixed", memory_format="contiguous")
    folder = tracking.scratch("abc")
    folder.mkdir(parents=True)
    saved = {"architecture": "alexnet", "recipe": asdict(measured)}
    (folder / tracking.RECIPE).write_text(json.dumps(saved), encoding="utf-8")
    assert folder.is_relative_to(home_of())
    assert interrupted(recipe) == "abc"
    assert interrupted(replace(recipe, batch_size=64)) is None
    assert interrupted(recipe_for("vgg16", "fashion-mnist")) is None
