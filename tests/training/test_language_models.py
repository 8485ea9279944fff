"""A language model from a text file to a registered version: the recurrent networks on verses."""

import json
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from training import pipeline, promotion
from training.export import as_run, export, parity, same_tokens
from training.loop import validate
from training.objectives.base import Tensors
from training.pipeline import RunResult
from training.recipe import Recipe
from training.recipes import recipe_for
from training.recurrent_recipe import RecurrentRecipe, TextSettings
from zoo import bundle
from zoo.bundle import Bundle
from zoo.cli import main
from zoo.errors import InvalidInput, NotFound, ZooError
from zoo.graph import Graph
from zoo.tasks.language_modelling import STREAMS, LanguageModelling
from zoo.tasks.memory import RecurrentState

pytestmark = pytest.mark.slow

VERSE = "The rain in Spain stays mainly in the plain.\nBy the sea shore she sells sea shells — café.\n"


@pytest.fixture
def verses(tmp_path: Path) -> Path:
    path = tmp_path / "Some Verses.txt"
    path.write_text(VERSE * 40, encoding="utf-8")
    return path


def small(architecture: str, path: Path, **changes: object) -> RecurrentRecipe:
    recipe = recipe_for(architecture, f"text:{path}")
    assert isinstance(recipe, RecurrentRecipe)
    text = TextSettings(context=32, embedding=16)
    changes = {"epochs": 20, "batch_size": 4, "precision": "32-true", "text": text, **changes}
    return replace(recipe, model=replace(recipe.model, width=48), **changes)


def trained(recipe: Recipe) -> tuple[RunResult, Bundle]:
    result = pipeline.train(recipe)
    assert result is not None
    return result, bundle.load(promotion.download(result.model, result.version))


@pytest.mark.parametrize("architecture", ["rnn", "lstm", "gru"])
def test_it_learns_to_write_the_text(architecture: str, verses: Path, home: Path) -> None:
    result, made = trained(small(architecture, verses, bar=1.5))
    assert result.model == f"{architecture}-some-verses"
    assert result.champion, result.reason
    assert result.metric == "bits_per_character"
    assert result.value < 1.5
    task = made.task
    assert isinstance(task, LanguageModelling)
    shape = {"rnn": 1, "lstm": 2, "gru": 1}[architecture], 1, 48
    assert task.memory == RecurrentState(shape=shape)
    answer = bundle.ask(
        task, made.open(), {"model": "m", "prompt": "The rain in ", "max_tokens": 5, "temperature": 0}
    )
    assert answer["text"] == "Spain"


def test_validation_measures_as_the_test_does(verses: Path) -> None:
    prepared = pipeline.prepare(small("lstm", verses, validation_share=0.3))
    assert prepared.data.validation is not None
    assert len(prepared.data.validation["tokens"]) % STREAMS, "some rows are left out"
    objective, task = prepared.objective, prepared.task
    tensors = {name: torch.from_numpy(array) for name, array in prepared.data.validation.items()}
    assert isinstance(task, LanguageModelling)
    measured = task.evaluate(as_run(objective.export_module(), task), prepared.data.validation)
    assert validate(objective, tensors)["loss"] == pytest.approx(measured["loss"], rel=1e-5)


def test_byte_pairs(verses: Path, home: Path) -> None:
    recipe = small("gru", verses)
    recipe = replace(recipe, text=replace(recipe.text, vocabulary=300, context=8))
    result, made = trained(recipe)
    assert isinstance(made.task, LanguageModelling)
    assert made.task.vocabulary <= 300
    assert result.metrics["loss"] / np.log(2) > 2 * result.value, "a token is several characters"


def test_what_a_run_leaves(verses: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, made = trained(small("rnn", verses))
    client = mlflow.MlflowClient()
    samples = [file.path for file in client.list_artifacts(result.run_id, "samples")]
    assert "samples/sample_epoch_020.txt" in samples
    assert len(samples) > 3
    path = mlflow.artifacts.download_artifacts(run_id=result.run_id, artifact_path=samples[-1])
    assert len(Path(path).read_text(encoding="utf-8")) == 400
    assert "## What it writes" in made.read_text("card.md")
    version = client.get_model_version(result.model, result.version)
    loaded = mlflow.onnx.load_model(f"models:/{result.model}/{version.version}")
    assert [i.name for i in loaded.graph.input] == ["tokens", "state"]
    capsys.readouterr()
    main(["write", result.model, "The rain", "--local", "--seed", "3", "--max-tokens", "20"])
    out = capsys.readouterr().out
    assert out.startswith("The rain")
    assert len(out) == len("The rain") + 20 + 1
    main(["leaderboard", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["metric"] == "bits_per_character"


def test_the_graph_is_the_module_token_for_token(verses: Path, home: Path) -> None:
    recipe = small("lstm", verses)
    recipe = replace(recipe, model=replace(recipe.model, layers=2))
    prepared = pipeline.prepare(recipe)
    pipeline.train_prepared(prepared, lambda progress, points: None)
    module, test = prepared.objective.export_module(), prepared.data.test
    run = Graph(export(module, prepared.task)["model"])
    assert parity(module, run, prepared.task, test).holds
    assert same_tokens(module, run, prepared.task, test)
    other = pipeline.prepare(replace(recipe, seed=1)).objective.export_module()
    assert not same_tokens(other, run, prepared.task, test)


def test_a_version_that_writes_other_tokens_fails_its_gate(
    verses: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "same_tokens", lambda *_: False)
    result, _ = trained(replace(small("rnn", verses), epochs=1))
    assert not result.champion
    assert "writes other tokens" in result.reason


def test_splits_are_in_order(verses: Path) -> None:
    data = small("rnn", verses).load_data()
    assert data.validation is not None
    parts = [split["text"].tobytes() for split in (data.train, data.validation, data.test)]
    assert b"".join(parts).decode() == VERSE * 40
    assert data.name == "some-verses"


def test_what_cannot_be_learned(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text(VERSE * 12, encoding="utf-8")
    with pytest.raises(InvalidInput, match="too few for a context of 9999"):
        pipeline.prepare(small("rnn", path, text=TextSettings(context=9999)))
    with pytest.raises(NotFound, match="no file"):
        pipeline.prepare(small("rnn", tmp_path / "none.txt"))


def test_a_number_format_that_the_processor_has_not(verses: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = pipeline.prepare(small("lstm", verses))

    def refuse(batch: Tensors) -> Tensors:
        raise RuntimeError("could not create a primitive descriptor for the LSTM")

    monkeypatch.setattr(prepared.objective, "step", refuse)
    with pytest.raises(ZooError, match="cannot train lstm in 32-true: train with --precision"):
        pipeline.train_prepared(prepared, lambda progress, points: None)
