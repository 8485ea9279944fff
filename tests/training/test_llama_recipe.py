"""A Llama trained from scratch: it learns verses, in parts as at once, and goes on beyond its context."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from quick_training import fitted

from training import pipeline
from training.export import as_run
from training.llama_graph import build
from training.loop import validate
from training.objectives.base import Tensors, clipped_update
from training.objectives.language_modelling import NextTokenInContext
from training.recipes import recipe_for
from training.recipes.llama import LlamaRecipe
from zoo.errors import ZooError
from zoo.graph import Graph
from zoo.models.llama import Llama, LlamaConfig
from zoo.tasks.language_modelling import GenerateTextRequest, LanguageModelling
from zoo.tasks.memory import KeyValueCache

pytestmark = pytest.mark.slow

VERSE = "The rain in Spain stays mainly in the plain.\nBy the sea shore she sells sea shells — café.\n"


@pytest.fixture
def verses(tmp_path: Path) -> Path:
    path = tmp_path / "Some Verses.txt"
    path.write_text(VERSE * 40, encoding="utf-8")
    return path


def small(path: Path, **changes: Any) -> LlamaRecipe:
    recipe = recipe_for("llama", f"text:{path}")
    assert isinstance(recipe, LlamaRecipe)
    model = LlamaConfig(layers=2, width=32, heads=2, key_value_heads=1)
    usual = {"epochs": 10, "batch_size": 4, "precision": "32-true", "context": 32, "model": model}
    return replace(recipe, **usual | changes)


def test_it_learns_to_write_the_text_and_goes_on_beyond_its_context(verses: Path) -> None:
    prepared, _ = fitted(small(verses))
    task, model = prepared.task, prepared.model
    assert isinstance(task, LanguageModelling)
    assert isinstance(model, Llama)
    assert task.memory == KeyValueCache(layers=2, heads=1, width=16)
    assert (task.context, task.places, model.config.window) == (32, 2048, 32)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    run = Graph(build(model.config, weights, "fp32", task.places))
    assert task.evaluate(run, prepared.data.test)["bits_per_character"] < 0.5
    asked = GenerateTextRequest(model="m", prompt="The rain in ", max_tokens=4 * len(VERSE), temperature=0)
    assert (asked.prompt or "") + str(task.answer(run, asked)["text"]) == (VERSE * 5)[: 12 + 4 * len(VERSE)]


def test_validation_measures_as_the_test_does(verses: Path) -> None:
    prepared = pipeline.prepare(small(verses, validation_share=0.7))
    held_out = prepared.data.validation
    assert held_out is not None
    assert len(held_out["tokens"]) > 64, "more rows than are read at once"
    tensors = {name: torch.from_numpy(array) for name, array in held_out.items()}
    measured = prepared.task.evaluate(as_run(prepared.objective.export_module(), prepared.task), held_out)
    assert validate(prepared.objective, tensors)["loss"] == pytest.approx(measured["loss"], rel=1e-5)


@pytest.mark.parametrize("accumulate", [2, 3, 7, 100])
def test_a_step_in_parts_is_the_step_at_once(verses: Path, accumulate: int) -> None:
    def stepped(accumulate: int) -> tuple[Tensors, Tensors]:
        prepared = pipeline.prepare(small(verses, accumulate=accumulate))
        batch = {name: torch.from_numpy(array[:7]) for name, array in prepared.data.train.items()}
        return prepared.objective.step(batch), prepared.objective.weights()

    (once, expected), (parts, weights) = stepped(1), stepped(accumulate)
    torch.testing.assert_close(parts, once)
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)


def test_the_parts_of_a_step_are_read_one_after_the_other(verses: Path) -> None:
    """Each but the first when the gradient of the one before is there, and what it needed is gone."""
    prepared = pipeline.prepare(small(verses))
    objective, weight = prepared.objective, prepared.model.embedding.weight
    assert isinstance(objective, NextTokenInContext)
    assert isinstance(weight, torch.Tensor)
    sums = []

    def losses() -> Any:
        for _ in range(3):
            sums.append(0.0 if weight.grad is None else weight.grad.sum().item())
            yield weight.sum()

    clipped_update(objective, prepared.fabric, objective.forward, losses(), clip=1.0)
    assert sums == [0, weight.numel(), 2 * weight.numel()]


def test_the_loop_takes_as_many_steps_in_parts(verses: Path) -> None:
    whole, parts = (fitted(small(verses, epochs=2, accumulate=n))[1] for n in (1, 2))
    assert parts.step == whole.step
    losses = [[value for _, value in progress.history["train_loss"]] for progress in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_byte_pairs(verses: Path) -> None:
    prepared = pipeline.prepare(small(verses, vocabulary=300, context=8))
    task = prepared.task
    assert isinstance(task, LanguageModelling)
    assert 100 < task.vocabulary <= 300
    rows = prepared.data.train["tokens"]
    assert len(task.text(rows[0])) > 2 * len(rows[0]), "a token is several characters"
    logits = prepared.model(torch.from_numpy(rows[:2]))
    assert logits.shape == (2, 8, task.vocabulary)


def test_exhibits_are_what_it_writes(verses: Path) -> None:
    assert len(pipeline.prepare(small(verses)).objective.exhibits()["sample"]) == 400
    assert len(pipeline.prepare(small(verses, places=40)).objective.exhibits()["sample"]) == 39


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 0}, "accumulate must be at least 1, not 0"),
        ({"clip": 0.0}, "clip must be above 0"),
        (
            {"model": LlamaConfig(width=32, heads=4)},
            "multiple of 16 wide, not 8: choose another --model.width",
        ),
    ],
)
def test_what_cannot_be(verses: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ZooError, match=message):
        small(verses, **changes)


def test_it_learns_texts_alone() -> None:
    with pytest.raises(ZooError, match="llama learns language_modelling; diabetes is tabular_regression"):
        pipeline.prepare(replace(recipe_for("llama"), dataset="diabetes"))
