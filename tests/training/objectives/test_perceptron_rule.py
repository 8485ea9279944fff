"""Rosenblatt's rule: one step by hand, convergence where a plane separates, none where it does not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from quick_training import QuickZoo, fitted

from training import promotion
from training.objectives.perceptron_rule import PerceptronRule
from training.recipes import recipe_for
from zoo.models.perceptron import Perceptron, PerceptronConfig
from zoo.tasks.tabular_classification import TabularClassification

TASK = TabularClassification(
    feature_names=("a", "b"), labels=("no", "yes"), feature_mean=(0.0, 0.0), feature_std=(1.0, 1.0)
)


def rule(rate: float = 1.0) -> PerceptronRule:
    return PerceptronRule(Perceptron(PerceptronConfig(), 2), TASK, rate, Fabric(accelerator="cpu"))


def batch(features: list[list[float]], target: list[int]) -> dict[str, torch.Tensor]:
    return {"features": torch.tensor(features), "target": torch.tensor(target)}


def test_one_step_by_hand() -> None:
    objective = rule()
    # (1, 2) should fire and does not at zero: added. (3, 1) should not fire, 1·3 + 2·1 + 1 = 6: subtracted.
    # (-3, 1) should not fire, -2·-3 + 1·1 + 0 = 7: subtracted. (1, 1) should fire, 1·1 + 0·1 - 1 = 0: added.
    assert objective.step(batch([[1, 2], [3, 1]], [1, 0]))["loss"] == 1.0
    assert objective.model.weight.tolist() == [-2, 1]
    assert objective.model.bias.item() == 0
    assert objective.step(batch([[-3, 1], [1, 1]], [0, 1]))["loss"] == 1.0
    assert objective.model.weight.tolist() == [2, 1]
    assert objective.model.bias.item() == 0


def test_right_answers_change_nothing() -> None:
    objective = rule()
    objective.step(batch([[1, 2]], [1]))
    before = objective.weights()
    assert objective.step(batch([[2, 2], [-3, -3]], [1, 0]))["loss"] == 0
    assert all(torch.equal(before[name], after) for name, after in objective.weights().items())


def test_the_learning_rate_scales_the_weights_and_no_answer() -> None:
    points = batch([[1, 2], [3, 1], [0, 1], [2, 2]], [1, 0, 1, 0])
    one, ten = rule(), rule(10.0)
    for _ in range(5):
        assert one.step(points)["loss"] == ten.step(points)["loss"]
    torch.testing.assert_close(10 * one.model.weight, ten.model.weight)


def test_the_exported_unit_is_certain() -> None:
    objective = rule()
    objective.step(batch([[1, 2]], [1]))
    answers = objective.export_module()(torch.tensor([[1.0, 1.0], [-2.0, -2.0]]))
    assert answers.tolist() == [[0, 1], [1, 0]]


def test_convergence_on_separable_data() -> None:
    """Novikoff (1962): at most (R / γ)² mistakes in all, for any plane that separates with margin γ."""
    recipe = replace(
        recipe_for("perceptron", "iris-setosa"), validation_share=0.0, patience=None, log_every=1
    )
    prepared, progress = fitted(recipe)
    rows = len(prepared.data.train["target"])
    mistakes = [round(share * rows) for _, share in progress.history["train_loss"]]
    assert mistakes[0] > 0
    assert mistakes[-5:] == [0] * 5

    task = prepared.task
    assert isinstance(task, TabularClassification)
    x = (prepared.data.train["features"] - task.feature_mean) / task.feature_std
    x = np.hstack([x, np.ones((rows, 1))])
    weights = prepared.objective.weights()
    plane = np.append(weights["1.weight"].numpy(), weights["1.bias"].item())
    sign = 2 * prepared.data.train["target"] - 1
    margin = (sign * (x @ plane)).min() / np.linalg.norm(plane)
    assert margin > 0
    assert sum(mistakes) <= (np.linalg.norm(x, axis=1).max() / margin) ** 2


def test_separable_data_are_answered_without_a_mistake(zoo: QuickZoo) -> None:
    result = zoo.results["perceptron", "iris-setosa"]
    assert result.value == 1.0
    assert result.champion


def test_xor_is_learned_by_the_mlp_alone(zoo: QuickZoo) -> None:
    unit, network = zoo.results["perceptron", "xor"], zoo.results["mlp", "xor"]
    assert unit.value <= 0.76  # three corners of four, and a point that strayed over
    assert not unit.champion
    assert "does not reach the recipe's bar of 0.95" in unit.reason
    record = promotion.record_of(unit.model, unit.version)
    assert record.gate == "failed"
    assert record.gate_reason == unit.reason
    assert network.value >= 0.95
    assert network.champion
    assert promotion.resolve("xor") == (network.model, network.version)


def test_the_pocket_keeps_the_best_weights() -> None:
    prepared, progress = fitted(recipe_for("perceptron", "xor"))
    losses = dict(progress.history["validation_loss"])
    assert progress.best_loss == min(losses.values())
    assert losses[progress.epoch] > progress.best_loss
    from training.loop import to_tensors, validate

    assert prepared.data.validation
    held_out = to_tensors(prepared.data.validation, prepared.fabric)
    assert validate(prepared.objective, held_out)["loss"] == pytest.approx(progress.best_loss)
