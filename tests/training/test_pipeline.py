"""A training from recipe to champion, and how it ends where it cannot."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from mlflow.exceptions import MlflowException
from quick_training import QUICK, UNLEARNABLE, QuickZoo, raw

from training import datasets, pipeline, promotion, recipes, tracking
from training.optimizer import Optimizer
from training.recipe import flatten
from training.recipes import recipe_for
from training.store import connect
from zoo.bundle import load
from zoo.cli import main
from zoo.errors import TrainingDiverged, ZooError
from zoo.models.mlp import MLPConfig

XOR = recipe_for("mlp", "xor")
TOO_FAST = replace(recipe_for("linear-regression"), epochs=200, optimizer=Optimizer("sgd", 0.9))


def test_every_quick_recipe_meets_its_bar(zoo: QuickZoo) -> None:
    for key, result in zoo.results.items():
        gate = promotion.record_of(result.model, result.version).gate
        assert (gate == "passed") == (key != UNLEARNABLE), f"{key}: {result.reason}"
        assert result.champion == (key != UNLEARNABLE)


def test_record_and_bundle_agree(zoo: QuickZoo) -> None:
    for (name, dataset), result in zoo.results.items():
        record = promotion.record_of(result.model, result.version)
        bundle = load(promotion.download(result.model, result.version))
        known = QUICK[name, dataset].dataset_name
        assert (record.architecture, record.dataset, result.model) == (name, known, f"{name}-{known}")
        assert record.digest == bundle.digest
        assert record.data_digest == bundle.manifest.data_digest == raw(dataset).digest
        assert record.metrics == bundle.manifest.metrics == result.metrics
        assert record.onnx_bytes == sum(path.stat().st_size for path in bundle.graph_paths)
        assert record.parameters == bundle.manifest.parameters > 0
        assert bundle.manifest.run_id == result.run_id
        assert 0 < record.latency_ms < 1000
        assert record.train_seconds == result.seconds


def test_another_run_logs_the_same_data_at_the_same_moment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_input, calls = mlflow.log_input, []

    def race(*args: Any, **words: Any) -> None:
        """MLflow's store has seen no such data set, and finds it there when it inserts it."""
        calls.append(words["context"])
        if len(calls) == 1:
            raise MlflowException("UNIQUE constraint failed: datasets.experiment_id")
        log_input(*args, **words)

    monkeypatch.setattr(mlflow, "log_input", race)
    result = pipeline.train(replace(XOR, epochs=3, bar=None))
    assert result is not None
    assert calls == ["training", "training", "testing"]
    assert len(connect().get_run(result.run_id).inputs.dataset_inputs) == 2


@pytest.mark.slow
def test_same_recipe_same_graph(home: Path) -> None:
    recipe = replace(XOR, epochs=3, bar=None)
    graphs = []
    for _ in range(2):
        result = pipeline.train(recipe)
        assert result is not None
        graphs.append(load(promotion.download(result.model, result.version)).graph_path.read_bytes())
    assert graphs[0] == graphs[1]
    first, second = promotion.leaderboard("xor")
    assert {first.champion, second.champion} == {True, False}
    assert not result.champion
    assert "does not beat champion 1" in result.reason


@pytest.mark.slow
def test_a_better_seed_takes_over(home: Path) -> None:
    """Another seed holds other rows out for validation, and is compared on the same test split."""
    weak = pipeline.train(replace(XOR, epochs=1, bar=None))
    strong = pipeline.train(replace(XOR, seed=1))
    assert weak is not None
    assert strong is not None
    assert strong.value > weak.value
    assert strong.champion, strong.reason


def test_divergence_fails_the_run_and_registers_nothing(home: Path) -> None:
    with pytest.raises(TrainingDiverged):
        pipeline.train(TOO_FAST)
    client = connect()
    experiment = client.get_experiment_by_name("diabetes")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert "TrainingDiverged: the loss was" in run.data.tags["failure"]
    assert "at step" in run.data.tags["failure"]
    assert client.search_registered_models() == []
    assert not tracking.scratch(run.info.run_id).exists()


def test_divergence_on_the_command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "linear-regression", "--optimizer.learning-rate", "0.9", "--epochs", "200"])
    assert ended.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "zoo: the loss was" in captured.err
    assert "try a smaller learning rate" in captured.err
    assert promotion.leaderboard() == []


MISFITS = {
    "perceptron learns tabular_classification; diabetes is": (lambda: recipe_for("perceptron", "diabetes")),
    "needs a validation split": lambda: replace(XOR, patience=3, validation_share=0.0),
    "28, 30 or 32 pixels, not 8": lambda: recipe_for("lenet5", "digits"),
    "there is no data set 'mnits'": lambda: recipe_for("mlp", "mnits"),
    "epochs": lambda: replace(XOR, epochs=0),
    "batch_size": lambda: replace(XOR, batch_size=-1),
    "log_steps": lambda: replace(XOR, log_steps=0),
    "log_every": lambda: replace(XOR, log_every=0),
    "validation_share": lambda: replace(XOR, validation_share=1.0),
    "patience": lambda: replace(XOR, patience=0),
    "dropout": lambda: replace(XOR, model=MLPConfig(dropout=1.5)),
    "hidden": lambda: replace(XOR, model=MLPConfig(hidden=(0,))),
    "learning rate": lambda: replace(XOR, optimizer=Optimizer("sgd", -1.0)),
}


@pytest.mark.parametrize("message", MISFITS)
def test_what_does_not_fit_is_said_before_a_run_is_made(home: Path, message: str) -> None:
    with pytest.raises(ZooError, match=message):
        pipeline.train(MISFITS[message]())
    assert [e.name for e in connect().search_experiments()] == ["Default"]


# Recipes


@pytest.mark.parametrize("name", recipes.names())
def test_recipes_of_an_architecture(name: str) -> None:
    known = recipes.recipes(name)
    assert len({type(recipe) for recipe in known.values()}) == 1
    for dataset, recipe in known.items():
        assert (recipe.dataset, recipe.architecture) == (dataset, name)
        assert datasets.find(dataset).kind in recipe.kinds or name == "gan"  # it learns from classes too
        assert recipe.bar is not None
        assert recipe.paper
    assert recipe_for(name).dataset not in ("mnist", "fashion-mnist"), "the quickest needs no download"


@pytest.mark.parametrize("key", QUICK, ids="-".join)
def test_a_saved_recipe_is_restored(key: tuple[str, str]) -> None:
    import json
    from dataclasses import asdict

    recipe = QUICK[key]
    saved = json.loads(json.dumps({"architecture": recipe.architecture, "recipe": asdict(recipe)}))
    assert recipes.restore(saved) == recipe


def test_another_data_set_has_no_bar() -> None:
    turned = recipe_for("mlp", "iris-setosa")
    assert (turned.dataset, turned.bar) == ("iris-setosa", None)


@pytest.mark.parametrize("name", recipes.names())
def test_every_hyperparameter_says_what_it_means(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", name, "--help"])
    assert ended.value.code == 0
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    recipe = recipe_for(name)
    for field in flatten(recipe):
        option = f"--{field.removeprefix('transfer.')}".replace("_", "-")
        found = re.search(rf"{option}(?=[ ,]).{{0,60}}?([A-Z|{{]\S*|None) .*?(\w+ \w+.*?)\(default: ", text)
        assert found, f"{option} is not explained"


def test_a_training_has_no_more_threads_than_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        monkeypatch.setenv("ZOO_CORES", "2")
        with pipeline.torch_settings(replace(recipe_for("lenet5"), threads=None)):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
