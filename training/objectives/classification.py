"""Classification: cross-entropy between softmax probabilities and the target class.

Shape legend: B batch, K classes.
"""

from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional as F  # noqa: N812

from training.objectives.base import Objective, Tensors, exportable
from training.optimizer import Optimizer
from zoo.layers.scaling import FeatureScaling, PixelScaling
from zoo.tasks.image_classification import ImageClassification
from zoo.tasks.tabular_classification import TabularClassification


class Classification(Objective):
    """Minimises the mean negative log-likelihood in nats, optionally with smoothed labels.

    Label smoothing: Szegedy et al. (2016), arXiv:1512.00567.
    """

    def __init__(
        self,
        model: nn.Module,
        task: TabularClassification | ImageClassification,
        optimizer: Optimizer,
        fabric: Fabric,
        steps: int,
        label_smoothing: float = 0.0,
    ) -> None:
        self.input = task.inputs[0]
        self.label_smoothing = label_smoothing
        network = nn.Sequential(_scaling(task), model)
        rule, schedule = optimizer.build(network, steps)
        self.forward, rule = fabric.setup(network, rule)
        self.fabric = fabric
        super().__init__(network, (rule,), (schedule,))

    def step(self, batch: Tensors) -> Tensors:
        logits = self.forward(batch[self.input])  # [B, K]
        loss = F.cross_entropy(logits, batch["target"], label_smoothing=self.label_smoothing)
        self.optimizers[0].zero_grad()
        self.fabric.backward(loss)
        self.optimizers[0].step()
        self.schedules[0].step()
        return {"loss": loss.detach()}

    def validate(self, batch: Tensors) -> Tensors:
        logits = self.forward(batch[self.input])
        hits = logits.argmax(dim=1) == batch["target"]
        return {"loss": F.cross_entropy(logits, batch["target"]), "accuracy": hits.float().mean()}

    def export_module(self) -> nn.Module:
        return exportable(self.network, nn.Softmax(dim=1))


def _scaling(task: TabularClassification | ImageClassification) -> nn.Module:
    if isinstance(task, ImageClassification):
        return PixelScaling(task.pixel_mean, task.pixel_std)
    return FeatureScaling(task.feature_mean, task.feature_std)
