"""Mean squared error: its gradients three ways, and gradient descent against the closed form."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from quick_training import QuickZoo, fitted, raw
from sklearn.linear_model import LinearRegression
from torch.nn import functional as F  # noqa: N812

from training import promotion
from training.objectives.regression import mse_gradients
from training.optimizer import Optimizer
from training.recipes import recipe_for
from zoo import bundle
from zoo.tasks.tabular_regression import TabularRegression

DIABETES = recipe_for("linear-regression", "diabetes")


@pytest.fixture
def problem() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    made = [
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((7, 3), (7,), (3,), ())
    ]
    return tuple(made)


def mse(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return F.mse_loss(x @ w + b, y)


def test_hand_gradients_are_autograds(problem: tuple[torch.Tensor, ...]) -> None:
    x, y, w, b = problem
    w.requires_grad_(), b.requires_grad_()
    mse(x, y, w, b).backward()
    by_weight, by_bias = mse_gradients(x, y, (x @ w + b).detach())
    torch.testing.assert_close(by_weight, w.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(by_bias, b.grad, rtol=1e-12, atol=1e-12)


def test_hand_gradients_are_finite_differences(problem: tuple[torch.Tensor, ...]) -> None:
    x, y, w, b = problem
    by_weight, by_bias = mse_gradients(x, y, x @ w + b)
    h = 1e-6
    for i, direction in enumerate(torch.eye(3, dtype=torch.float64) * h):
        slope = (mse(x, y, w + direction, b) - mse(x, y, w - direction, b)) / (2 * h)
        assert by_weight[i].item() == pytest.approx(slope.item(), abs=1e-8)
    slope = (mse(x, y, w, b + h) - mse(x, y, w, b - h)) / (2 * h)
    assert by_bias.item() == pytest.approx(slope.item(), abs=1e-8)


@pytest.mark.parametrize("batch_size", [0, 32])
def test_hand_and_autograd_train_the_same_weights(batch_size: int) -> None:
    runs = [
        fitted(replace(DIABETES, epochs=50, batch_size=batch_size, gradient=gradient))[0]
        for gradient in ("hand", "autograd")
    ]
    hand, autograd = (run.objective.weights() for run in runs)
    assert hand["1.weight"].dtype == torch.float64
    assert hand["1.weight"].abs().max() > 0.1
    for name in hand:
        torch.testing.assert_close(hand[name], autograd[name], rtol=1e-12, atol=1e-14)


def test_batch_gradient_descent_reaches_least_squares(zoo: QuickZoo) -> None:
    """The coefficients of the registered model, un-scaled, and the same read off its answers."""
    result = zoo.results["linear-regression", "diabetes"]
    loaded = bundle.load(promotion.download(result.model, result.version))
    task = loaded.task
    assert isinstance(task, TabularRegression)
    trained = {
        tensor.name.rpartition(".")[2]: numpy_helper.to_array(tensor).astype(np.float64)
        for tensor in onnx.load(loaded.graph_path).graph.initializer
    }
    coefficients = trained["weight"] * task.target_std / np.array(task.feature_std)
    data = raw("diabetes")
    exact = LinearRegression().fit(data.train["features"], data.train["target"])
    np.testing.assert_allclose(coefficients, exact.coef_, atol=1e-4, rtol=0)

    run = loaded.open()
    zero = run({"features": np.zeros((1, 10), np.float32)})["value"].astype(np.float64)
    slopes = run({"features": np.eye(10, dtype=np.float32)})["value"] - zero
    # Answers of about 1000 in float32 resolve no more.
    np.testing.assert_allclose(slopes, exact.coef_, rtol=1e-4)
    assert zero[0] == pytest.approx(exact.intercept_, abs=1e-4)


def test_reference_metrics(zoo: QuickZoo) -> None:
    result = zoo.results["linear-regression", "diabetes"]
    assert result.metrics["mse"] <= 2900.3
    assert result.metrics["mse"] == pytest.approx(2900.19, abs=0.02)
    assert result.metrics["r2"] == pytest.approx(0.4526, abs=1e-4)
    assert result.champion


UPDATES = {
    "batch gradient descent": (0, Optimizer("sgd", 0.1)),
    "SGD, one sample": (1, Optimizer("sgd", 1e-3)),
    "mini-batch": (32, Optimizer("sgd", 1e-2)),
    "momentum": (32, Optimizer("sgd", 1e-2, momentum=0.9)),
    "Adam": (32, Optimizer("adam", 1e-2)),
    "AdamW": (32, Optimizer("adamw", 1e-2)),
    "RMSProp": (32, Optimizer("rmsprop", 1e-3)),
}


@pytest.mark.parametrize("gradient", ["hand", "autograd"])
@pytest.mark.parametrize(
    "update",
    [
        pytest.param(name, marks=pytest.mark.slow if batch == 1 else ())
        for name, (batch, _) in UPDATES.items()
    ],
)
def test_every_update_rule_learns(update: str, gradient: str) -> None:
    batch_size, optimizer = UPDATES[update]
    recipe = replace(
        DIABETES, epochs=20, batch_size=batch_size, optimizer=optimizer, gradient=gradient, log_every=1
    )
    _, progress = fitted(recipe)
    losses = [value for _, value in progress.history["train_loss"]]
    assert losses[0] > losses[-1]
    assert losses[-1] < 0.65  # of the variance; the least-squares optimum is 0.47
