"""Rosenblatt's learning rule: corrects mistakes, without a loss or a gradient.

Source: Rosenblatt (1958), doi:10.1037/h0042519. For each example in turn: if the unit's answer is wrong,
add the example to the weights (target 1) or subtract it (target 0). On separable data this stops after
finitely many mistakes (Novikoff 1962); for other data there is the pocket, which keeps the best weights so
far (Gallant 1990, doi:10.1109/72.80230).

Shape legend: B batch, F features.
"""

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from training.objectives.base import Objective, Tensors, exportable
from zoo.errors import ZooError
from zoo.layers.scaling import FeatureScaling
from zoo.models.perceptron import Perceptron
from zoo.tasks.tabular_classification import TabularClassification


class Threshold(nn.Module):
    """Output of the unit as probabilities 0 and 1: excitation [B] -> [B, 2], one-hot."""

    def forward(self, excitation: Tensor) -> Tensor:
        fires = (excitation > 0).float()
        return torch.stack([1 - fires, fires], dim=1)


class PerceptronRule(Objective):
    """Applies the rule to each example in turn; `loss` is the share of examples that needed a correction."""

    def __init__(
        self, model: Perceptron, task: TabularClassification, learning_rate: float, fabric: Fabric
    ) -> None:
        if fabric.world_size > 1:
            raise ZooError("the perceptron's rule takes one example after another: train it on one device")
        self.model = model
        self.learning_rate = learning_rate
        self.scaling = FeatureScaling(task.feature_mean, task.feature_std)
        network = nn.Sequential(self.scaling, model).to(fabric.device)
        super().__init__(network)

    @torch.no_grad()
    def step(self, batch: Tensors) -> Tensors:
        x = self.scaling(batch["features"])
        sign = 2.0 * batch["target"] - 1  # 1 where the unit should fire, -1 where it should not
        # The rule is sequential: each correction changes the answer to the next example. In numpy, because a
        # torch call costs more than its ten multiplications.
        weight, bias = self.model.weight.cpu().numpy().copy(), float(self.model.bias)
        mistakes = 0
        for example, correction in zip(x.cpu().numpy(), (self.learning_rate * sign).tolist(), strict=True):
            if correction * (example @ weight + bias) <= 0:
                weight += correction * example
                bias += correction
                mistakes += 1
        self.model.weight.copy_(torch.from_numpy(weight))
        self.model.bias.fill_(bias)
        return {"loss": torch.tensor(mistakes / len(sign))}

    def validate(self, batch: Tensors) -> Tensors:
        hits = (self.network(batch["features"]) > 0) == (batch["target"] == 1)
        accuracy = hits.float().mean()
        return {"loss": 1 - accuracy, "accuracy": accuracy}

    def export_module(self) -> nn.Module:
        return exportable(self.network, Threshold())
