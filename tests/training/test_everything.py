"""`make zoo`: all recipes, what is done is left alone, what was interrupted goes on."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from training import everything, promotion, recipes, tracking
from training.recipes import recipe_for
from zoo.errors import InvalidInput, ZooError
from zoo.home import home as home_of

DIABETES = replace(recipe_for("linear-regression"), epochs=3, bar=None)
IRIS = replace(recipe_for("perceptron", "iris-setosa"), epochs=2, bar=None)


def test_plan_holds_every_recipe_once_and_the_quick_ones_first() -> None:
    plan = everything.plan()
    every = [recipe for name in recipes.names() for recipe in recipes.recipes(name).values()]
    assert sorted(r.model_name for r in plan) == sorted(r.model_name for r in every)
    first = {r.architecture for r in plan[: len(recipes.names())]}
    assert first == set(recipes.names())


def test_each_is_trained_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everything, "plan", lambda: [DIABETES, IRIS])
    everything.train_everything(workers=2)
    everything.train_everything(workers=2)
    assert [row.version for row in promotion.leaderboard()] == ["1", "1"]


def test_one_that_fails_does_not_keep_the_others_from_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = replace(DIABETES, dataset="csv:nowhere.csv")
    monkeypatch.setattr(everything, "plan", lambda: [nowhere, IRIS])
    with pytest.raises(ZooError, match=r"1 of 2 could not be trained: linear-regression-nowhere: .*nowhere"):
        everything.train_everything(workers=1)
    assert promotion.champion(IRIS.model_name) == "1"
    told = capsys.readouterr().err
    assert "1 of 2 linear-regression-nowhere: failed" in told
    assert "2 of 2 perceptron-iris-setosa: accuracy 1.0000" in told


def test_what_others_need_is_trained_before_them() -> None:
    gan, judge, other = (recipe_for(name) for name in ("gan", "lenet5", "mlp"))
    assert everything._next([gan, judge, other], []) is judge
    assert everything._next([gan, other], [judge]) is other
    assert everything._next([gan], [judge]) is None
    assert everything._next([gan], []) is gan


def test_no_workers_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 1, not 0"):
        everything.train_everything(workers=0)


def test_interrupted_run_is_found_by_its_recipe(home: Path) -> None:
    recipe = replace(recipe_for("alexnet", "fashion-mnist"), batch_size=100)
    measured = replace(recipe, precision="bf16-mixed", memory_format="contiguous")
    folder = tracking.scratch("abc")
    folder.mkdir(parents=True)
    saved = {"architecture": "alexnet", "recipe": asdict(measured)}
    (folder / tracking.RECIPE).write_text(json.dumps(saved), encoding="utf-8")
    assert folder.is_relative_to(home_of())
    assert everything.interrupted(recipe) == "abc"
    assert everything.interrupted(replace(recipe, batch_size=64)) is None
    assert everything.interrupted(recipe_for("vgg16", "fashion-mnist")) is None
