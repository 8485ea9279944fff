"""Regression: mean squared error in standardised units, with a gradient from autograd or explicit formulas.

Shape legend: B batch, F features.
"""

from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from training.objectives.base import Objective, Tensors, exportable
from training.optimizer import Optimizer
from zoo.layers.scaling import FeatureScaling, ValueUnscaling
from zoo.models.linear_regression import LinearRegression
from zoo.tasks.tabular_regression import TabularRegression


def mse_gradients(x: Tensor, y: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """Returns ∂MSE/∂w [F] and ∂MSE/∂b [] of ŷ = xᵀw + b, by their formulas.

    MSE = 1/B Σ (ŷ - y)², so ∂MSE/∂w = 2/B Σ (ŷ - y) x and ∂MSE/∂b = 2/B Σ (ŷ - y),
    for x [B, F], y [B] and ŷ [B].
    """
    error = prediction - y
    return 2 / len(y) * (error @ x), 2 / len(y) * error.sum()


class Regression(Objective):
    """Minimises the mean squared error of the standardised target."""

    def __init__(
        self,
        model: nn.Module,
        task: TabularRegression,
        optimizer: Optimizer,
        fabric: Fabric,
        steps: int,
        gradient: Literal["hand", "autograd"] = "autograd",
    ) -> None:
        """Uses explicit partial derivatives with `gradient="hand"`, only for `LinearRegression`."""
        self.gradient = gradient
        self.model = model
        self.scaling = FeatureScaling(task.feature_mean, task.feature_std)
        self.unscaling = ValueUnscaling(task.target_mean, task.target_std)
        network = nn.Sequential(self.scaling, model)
        rule, schedule = optimizer.build(network, steps)
        self.forward, rule = fabric.setup(network, rule)
        self.unscaling.to(fabric.device)
        self.fabric = fabric
        super().__init__(network, (rule,), (schedule,))

    def step(self, batch: Tensors) -> Tensors:
        self.optimizers[0].zero_grad()
        target = self._scaled(batch["target"])
        if self.gradient == "hand":
            loss = self._backward_by_hand(batch["features"], target)
        else:
            loss = F.mse_loss(self._predict(batch["features"]), target)
            self.fabric.backward(loss)
        self.optimizers[0].step()
        self.schedules[0].step()
        return {"loss": loss.detach()}

    def validate(self, batch: Tensors) -> Tensors:
        return {"loss": F.mse_loss(self._predict(batch["features"]), self._scaled(batch["target"]))}

    def export_module(self) -> nn.Module:
        # [B, 1] of an MLP -> [B]
        flatten = nn.Identity() if isinstance(self.model, LinearRegression) else nn.Flatten(0)
        return exportable(self.network, flatten, self.unscaling)

    def _predict(self, features: Tensor) -> Tensor:
        prediction: Tensor = self.forward(features)
        return prediction.flatten()  # [B, 1] of an MLP, [B] of a linear regression -> [B]

    def _scaled(self, target: Tensor) -> Tensor:
        return (target - self.unscaling.mean) / self.unscaling.std

    @torch.no_grad()
    def _backward_by_hand(self, features: Tensor, target: Tensor) -> Tensor:
        assert isinstance(self.model, LinearRegression)
        x = self.scaling(features)
        prediction = self.model(x)
        by_weight, by_bias = mse_gradients(x, target, prediction)
        # Each of several devices has its share of the batch; the mean over devices is that of the batch.
        self.model.weight.grad = self.fabric.all_reduce(by_weight, reduce_op="mean")  # type: ignore[assignment]
        self.model.bias.grad = self.fabric.all_reduce(by_bias, reduce_op="mean")  # type: ignore[assignment]
        return F.mse_loss(prediction, target)
