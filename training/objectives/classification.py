"""Classification: cross-entropy between softmax probabilities and the target class.

Shape legend: B batch, H height, W width, C channels, K classes.
"""

from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from training.augment import Augmentation, mix
from training.objectives.base import Objective, Tensors, exportable
from training.optimizer import Optimizer
from training.transfer import Frozen
from zoo.layers.mirrored import Mirrored
from zoo.layers.scaling import FeatureScaling, PixelScaling
from zoo.tasks.image_classification import ImageClassification
from zoo.tasks.tabular_classification import TabularClassification


@dataclass(frozen=True)
class ImageOptions:
    """Additional options for training an image classifier."""

    augmentation: Augmentation = Augmentation()
    memory_format: torch.memory_format = torch.channels_last
    rates: tuple[tuple[nn.Module, float], ...] = ()
    """Parts of the model with their own peak learning rates."""
    frozen: Frozen | None = None
    mirrored: bool = False
    """True if the exported graph averages over an image and its mirror image."""


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
        images: ImageOptions | None = None,
    ) -> None:
        self.input = task.inputs[0]
        self.label_smoothing = label_smoothing
        options = images or ImageOptions()
        self.augmentation = options.augmentation
        self.frozen = options.frozen
        self.mirrored = options.mirrored
        network = nn.Sequential(_scaling(task, options.memory_format), model)
        if isinstance(task, ImageClassification):
            network = network.to(memory_format=options.memory_format)
        rule, schedule = optimizer.build(network, steps, options.rates)
        self.forward, rule = fabric.setup(network, rule)
        self.fabric = fabric
        super().__init__(network, (rule,), (schedule,))

    def step(self, batch: Tensors) -> Tensors:
        if self.frozen is not None:
            self.frozen.update(self.schedules[0].last_epoch)  # steps so far
        loss = self._loss(batch[self.input], batch["target"])
        self.optimizers[0].zero_grad()
        self.fabric.backward(loss)
        self.optimizers[0].step()
        self.schedules[0].step()
        return {"loss": loss.detach()}

    def _loss(self, inputs: Tensor, target: Tensor) -> Tensor:
        images = self.augmentation.images(inputs)  # [B, H, W, C], or [B, F] unchanged
        if not self.augmentation.mixup:
            return self._cross_entropy(self.forward(images), target)
        images, order, share = mix(images, self.augmentation.mixup)
        logits = self.forward(images)  # [B, K]
        own, other = self._cross_entropy(logits, target), self._cross_entropy(logits, target[order])
        return share * own + (1 - share) * other

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)

    def validate(self, batch: Tensors) -> Tensors:
        logits = self.forward(batch[self.input])
        hits = logits.argmax(dim=1) == batch["target"]
        return {"loss": F.cross_entropy(logits, batch["target"]), "accuracy": hits.float().mean()}

    def export_module(self) -> nn.Module:
        classifier = nn.Sequential(self.network, nn.Softmax(dim=1))
        return exportable(Mirrored(classifier) if self.mirrored else classifier)


def _scaling(
    task: TabularClassification | ImageClassification, memory_format: torch.memory_format
) -> nn.Module:
    if isinstance(task, ImageClassification):
        return PixelScaling(task.pixel_mean, task.pixel_std, memory_format)
    return FeatureScaling(task.feature_mean, task.feature_std)
