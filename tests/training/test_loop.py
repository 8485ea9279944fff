"""The loop: repeatable, patient, and loud where the loss leaves all bounds."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from quick_training import fitted

from training import pipeline
from training.loop import Points, Progress, fit, seed_of, to_tensors, validate
from training.objectives.base import Tensors
from training.optimizer import Optimizer
from training.recipe import Recipe
from training.recipes import recipe_for
from zoo.errors import TrainingDiverged
from zoo.models.mlp import MLPConfig

SHORT = replace(  # everything random takes part: initial weights, order, dropout, validation split
    recipe_for("mlp", "breast-cancer"), epochs=8, patience=None, model=MLPConfig((16,), dropout=0.3)
)


def weights(recipe: Recipe) -> dict[str, torch.Tensor]:
    return fitted(recipe)[0].objective.weights()


def test_same_seed_same_weights_bit_for_bit() -> None:
    once, twice = weights(SHORT), weights(SHORT)
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_what_ran_before_does_not_matter() -> None:
    once = weights(SHORT)
    torch.manual_seed(123)
    torch.rand(17)
    twice = weights(SHORT)
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_another_seed_gives_other_weights() -> None:
    once, other = weights(SHORT), weights(replace(SHORT, seed=1))
    trained = [name for name in once if name.startswith("1.")]
    assert not any(torch.equal(once[name], other[name]) for name in trained)


def test_seeds_of_different_parts_differ() -> None:
    parts = [(a, b) for a in range(30) for b in range(30)]
    assert len({seed_of(*p) for p in parts}) == len(parts)
    assert all(0 <= seed_of(*p) < 2**63 for p in parts)


def test_early_stopping_restores_the_best_weights() -> None:
    recipe = replace(recipe_for("mlp", "diabetes"), epochs=500, patience=5, optimizer=Optimizer("adam", 2e-2))
    prepared, progress = fitted(recipe)
    losses = dict(progress.history["validation_loss"])
    assert progress.epoch < 500
    assert progress.epoch - progress.best_epoch == 5
    assert progress.best_loss == min(losses.values()) == losses[progress.best_epoch] < losses[progress.epoch]
    assert prepared.data.validation
    held_out = to_tensors(prepared.data.validation, prepared.fabric)
    assert validate(prepared.objective, held_out)["loss"] == pytest.approx(progress.best_loss, rel=1e-6)


def test_without_patience_the_last_weights_stay() -> None:
    prepared, progress = fitted(replace(SHORT, epochs=30, optimizer=Optimizer("adam", 2e-2)))
    assert progress.epoch == 30
    assert prepared.data.validation
    held_out = to_tensors(prepared.data.validation, prepared.fabric)
    last = progress.history["validation_loss"][-1][1]
    assert validate(prepared.objective, held_out)["loss"] == pytest.approx(last, rel=1e-6)


@pytest.mark.parametrize("log_every", [1, 3])
def test_points_by_epoch_and_by_step(log_every: int) -> None:
    prepared, progress = fitted(replace(SHORT, log_every=log_every, log_steps=10))
    steps_an_epoch = math.ceil(len(prepared.data.train["target"]) / SHORT.batch_size)
    epochs = [e for e in range(1, 9) if e % log_every == 0 or e == 8]
    history = progress.history
    assert [step for step, _ in history["train_loss"]] == epochs
    assert [step for step, _ in history["validation_loss"]] == epochs
    assert [step for step, _ in history["validation_accuracy"]] == epochs
    assert [step for step, _ in history["batch_loss"]] == list(range(10, 8 * steps_an_epoch + 1, 10))
    assert progress.step == 8 * steps_an_epoch


def test_epoch_loss_is_the_mean_of_its_steps() -> None:
    _, progress = fitted(replace(SHORT, epochs=2, log_steps=1))
    values = [value for _, value in progress.history["batch_loss"]]
    half = len(values) // 2
    assert progress.history["train_loss"][1][1] == pytest.approx(sum(values[half:]) / half)


def test_an_epoch_takes_every_example_once() -> None:
    """SGD of one sample at rate 0 leaves the weights alone: its losses are those of the examples."""
    recipe = replace(SHORT, epochs=1, batch_size=1, log_steps=1, model=MLPConfig((4,)))
    recipe = replace(recipe, optimizer=Optimizer("sgd", 0.0))
    prepared, progress = fitted(recipe)
    data = to_tensors(prepared.data.train, prepared.fabric)
    logits = prepared.objective.network(data["features"])
    each = torch.nn.functional.cross_entropy(logits, data["target"], reduction="none")
    got = torch.tensor([value for _, value in progress.history["batch_loss"]])
    torch.testing.assert_close(got.sort().values, each.detach().sort().values)
    assert not torch.allclose(got, each.detach()), "the examples come in their stored order"


@pytest.mark.parametrize("rate", [0.6, 1e30])
def test_divergence_names_step_and_reason(rate: float) -> None:
    recipe = replace(
        recipe_for("linear-regression"), epochs=500, optimizer=Optimizer("sgd", rate), log_every=20
    )
    with pytest.raises(TrainingDiverged, match=r"at step \d+ \(epoch \d+\).*try a smaller learning rate"):
        fitted(recipe)


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut after each epoch in turn, with momentum, schedule, dropout and early stopping."""
    monkeypatch.setattr("training.loop.CHECKPOINT_SECONDS", -1.0)
    rule = Optimizer("adamw", 2e-2, schedule="cosine")
    recipe = replace(SHORT, epochs=12, patience=4, optimizer=rule)
    whole, expected = fitted(recipe)

    class Cut(BaseException):
        pass

    for stop in range(1, expected.epoch + 1):
        path = tmp_path / f"{stop}.pt"

        def cut(progress: Progress, points: Points, stop: int = stop) -> None:
            if progress.epoch == stop:
                raise Cut

        with pytest.raises(Cut):
            pipeline.train_prepared(pipeline.prepare(recipe), cut, path)
        resumed = pipeline.prepare(recipe)
        progress = pipeline.train_prepared(resumed, lambda progress, points: None, path)
        assert progress.epoch == expected.epoch
        assert progress.history == expected.history
        for name, tensor in whole.objective.weights().items():
            assert torch.equal(tensor, resumed.objective.weights()[name]), f"{name} after a cut at {stop}"


def test_every_scalar_of_a_step_is_averaged_and_logged() -> None:
    prepared, _ = fitted(replace(SHORT, epochs=1))
    rows, calls = len(prepared.data.train["target"]), 0
    step = prepared.objective.step

    def counting(batch: Tensors) -> Tensors:
        nonlocal calls
        calls += 1
        return step(batch) | {"calls": torch.tensor(float(calls))}

    prepared.objective.step = counting  # type: ignore[method-assign]
    plan = replace(prepared.plan, epochs=4, log_every=2)
    fit_args = prepared.data.train, None, plan, prepared.fabric, lambda progress, points: None
    history = fit(prepared.objective, *fit_args).history
    steps = math.ceil(rows / SHORT.batch_size)
    # The calls of two epochs are numbered 1 to 2n, and 2n + 1 to 4n.
    assert history["train_calls"] == [(2, steps + 0.5), (4, 3 * steps + 0.5)]
    assert set(history) == {"train_loss", "train_calls", "batch_loss"}
