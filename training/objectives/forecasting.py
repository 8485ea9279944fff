"""Forecasting: mean squared or absolute error of all steps ahead, standardised by the training split.

Shape legend: B batch, W window, H horizon, V variables.
"""

from typing import Literal

from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from training.objectives.base import Objective, Tensors, clipped_update, exportable
from training.optimizer import Optimizer
from zoo.layers.scaling import FeatureScaling, ValueUnscaling
from zoo.tasks.forecasting import Forecasting

LOSSES = {"mse": F.mse_loss, "mae": F.l1_loss}


class Forecast(Objective):
    """Minimises the error of standardised forecasts [B, H, V]."""

    def __init__(
        self,
        model: nn.Module,
        task: Forecasting,
        optimizer: Optimizer,
        fabric: Fabric,
        steps: int,
        loss: Literal["mse", "mae"],
        clip: float,
    ) -> None:
        """Clips gradients to the norm `clip`."""
        self.scaling = FeatureScaling(task.mean, task.std)
        self.unscaling = ValueUnscaling(task.mean, task.std)
        self.loss, self.clip = LOSSES[loss], clip
        network = nn.Sequential(self.scaling, model)
        rule, schedule = optimizer.build(network, steps)
        self.forward, rule = fabric.setup(network, rule)
        self.fabric = fabric
        super().__init__(network, (rule,), (schedule,))

    def step(self, batch: Tensors) -> Tensors:
        return clipped_update(self, self.fabric, self.forward, [self._loss(batch)], self.clip)

    def validate(self, batch: Tensors) -> Tensors:
        return {"loss": self._loss(batch)}

    def export_module(self) -> nn.Module:
        return exportable(self.network, self.unscaling)

    def _loss(self, batch: Tensors) -> Tensor:
        forecast = self.forward(batch["history"])  # [B, W, V] -> [B, H, V]
        return self.loss(forecast, self.scaling(batch["target"]))
