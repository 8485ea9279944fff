"""`make zoo`: all recipes, what is done is left alone, a failure keeps no other from being trained."""

from dataclasses import replace
from pathlib import Path

import pytest

from training import everything, promotion, recipes
from training.recipes import recipe_for
from zoo.errors import ZooError

pytestmark = pytest.mark.slow

DIABETES = replace(recipe_for("linear-regression"), epochs=3, bar=None)
IRIS = replace(recipe_for("perceptron", "iris-setosa"), epochs=2, bar=None)


def test_plan_holds_every_recipe_once_and_the_quick_ones_first() -> None:
    plan = everything.plan(long=True)
    every = [recipe for name in recipes.names() for recipe in recipes.recipes(name).values()]
    assert sorted(r.model_name for r in plan) == sorted(r.model_name for r in every)
    first = {r.architecture for r in plan[: len(recipes.names())]}
    assert first == set(recipes.names())


def test_plan_leaves_out_what_takes_long_unless_asked() -> None:
    usual, all_of_it = ({r.model_name for r in everything.plan(long=long)} for long in (False, True))
    assert all_of_it - usual == {
        *(f"{name}-{images}" for name in ("alexnet", "vgg16") for images in ("fashion-mnist", "cifar10")),
        *("gan-mnist", "gan-fashion-mnist", "efficientnet-lite0-cifar10"),
        *("transformer-multi30k-de-en", "transformer-multi30k-en-fr"),
        *("transformer-docstrings", "transformer-debian-summaries"),
        *("llama-tiny-shakespeare", "smollm2-python-topics", "smollm2-chatterbot"),
    }


def test_each_is_trained_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everything, "plan", lambda **_: [DIABETES, IRIS])
    everything.train_everything(workers=2)
    everything.train_everything(workers=2)
    assert [row.version for row in promotion.leaderboard()] == ["1", "1"]


def test_one_that_fails_does_not_keep_the_others_from_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = replace(DIABETES, dataset="csv:nowhere.csv")
    monkeypatch.setattr(everything, "plan", lambda **_: [nowhere, IRIS])
    with pytest.raises(ZooError, match=r"1 of 2 could not be trained: linear-regression-nowhere: .*nowhere"):
        everything.train_everything(workers=1)
    assert promotion.champion(IRIS.model_name) == "1"
    told = capsys.readouterr().err
    assert "1 of 2 linear-regression-nowhere: failed" in told
    assert "2 of 2 perceptron-iris-setosa: accuracy 1.0000" in told
