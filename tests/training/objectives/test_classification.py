"""Cross-entropy, with and without smoothed labels, and what weight decay does to an MLP."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from quick_training import fitted

from training.objectives.classification import Classification
from training.optimizer import Optimizer
from training.recipes import recipe_for
from zoo.models.mlp import MLP, MLPConfig
from zoo.tasks.tabular_classification import TabularClassification

TASK = TabularClassification(
    feature_names=("a", "b"), labels=("x", "y", "z"), feature_mean=(1.0, 2.0), feature_std=(3.0, 4.0)
)
BATCH = {"features": torch.tensor([[1.0, 2.0], [4.0, 6.0]]), "target": torch.tensor([0, 2])}


def objective(smoothing: float = 0.0) -> Classification:
    torch.manual_seed(0)
    fabric = Fabric(accelerator="cpu")
    return Classification(MLP(MLPConfig((4,)), 2, 3), TASK, Optimizer("sgd", 0.1), fabric, 10, smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_cross_entropy(smoothing: float) -> None:
    trained = objective(smoothing)
    probabilities = trained.export_module()(BATCH["features"]).detach().numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    wanted = np.eye(3)[[0, 2]] * (1 - smoothing) + smoothing / 3
    expected = -(wanted * np.log(probabilities)).sum(axis=1).mean()
    assert trained.step(BATCH)["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_features_are_standardised_inside_the_network() -> None:
    trained = objective()
    standardised = (BATCH["features"] - torch.tensor([1.0, 2.0])) / torch.tensor([3.0, 4.0])
    model = trained.network[1]  # type: ignore[index]
    torch.testing.assert_close(trained.network(BATCH["features"]), model(standardised))


def test_scaling_is_not_trained() -> None:
    trained = objective()
    before = trained.weights()
    trained.step(BATCH)
    after = trained.weights()
    assert torch.equal(before["0.mean"], after["0.mean"])
    assert not torch.equal(before["1.layers.1.weight"], after["1.layers.1.weight"])


def test_exporting_leaves_what_is_trained_alone() -> None:
    trained = objective()
    module = trained.export_module()
    assert not module.training
    before = module(BATCH["features"])
    trained.step(BATCH)
    assert torch.equal(before, module(BATCH["features"]))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_validation_is_repeatable(dropout: float) -> None:
    recipe = recipe_for("mlp", "xor")
    recipe = replace(recipe, epochs=1, model=MLPConfig((8,), "tanh", dropout))
    prepared, _ = fitted(recipe)
    from training.loop import to_tensors, validate

    held_out = to_tensors(prepared.data.test, prepared.fabric)
    assert validate(prepared.objective, held_out) == validate(prepared.objective, held_out)
    prepared.objective.network.train()
    once, twice = (prepared.objective.network(held_out["features"]) for _ in range(2))
    assert torch.equal(once, twice) == (dropout == 0)


def test_l2_shrinks_the_weights() -> None:
    recipe = replace(recipe_for("mlp", "breast-cancer"), epochs=15, patience=None)
    norms = []
    for decay in (0.0, 0.1):
        prepared, _ = fitted(replace(recipe, optimizer=Optimizer("adam", 3e-3, weight_decay=decay)))
        norms.append(sum(p.square().sum().item() for p in prepared.objective.network.parameters()))
    assert norms[1] < 0.8 * norms[0]
