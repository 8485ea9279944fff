"""Recipes for AlexNet: the paper's for photographs in folders, a small one for 28 and 32 pixels."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from training.augment import Augmentation
from training.image_recipe import ImageRecipe
from training.optimizer import Optimizer
from zoo.errors import ZooError
from zoo.models.alexnet import SMALL, AlexNet, AlexNetConfig
from zoo.tasks import Task
from zoo.tasks.image_classification import ImageClassification

# Large steps that decay to zero: few epochs then reach the accuracy of many epochs with small steps.
SWIFT = Optimizer("muon", 0.05, momentum=0.9, weight_decay=0.05, schedule="cosine", warmup=0.2)


@dataclass(frozen=True, kw_only=True)
class AlexNetRecipe(ImageRecipe):
    """AlexNet, the network that won ImageNet (Krizhevsky, Sutskever & Hinton 2012)."""

    model: AlexNetConfig = AlexNetConfig()

    architecture: ClassVar[str] = "alexnet"
    paper: ClassVar[str] = "Krizhevsky et al. 2012"
    parameters: ClassVar[int] = 130_874

    def build_model(self, task: Task) -> nn.Module:
        assert isinstance(task, ImageClassification)
        if task.height != task.width:
            raise ZooError(f"AlexNet takes square images, not {task.height} x {task.width}")
        return AlexNet(self.model, task.channels, task.height, len(task.labels))


FOLDER_RECIPE = AlexNetRecipe(
    dataset="images:PATH",
    epochs=30,
    batch_size=64,
    image_size=224,
    precision="auto",
    memory_format="auto",
    optimizer=Optimizer("sgd", 0.01, momentum=0.9, weight_decay=5e-4, schedule="cosine", warmup=0.05),
    augmentation=Augmentation(flip=True, crop=16, colour=0.2),
)
RECIPES = (
    AlexNetRecipe(
        dataset="mnist-5k",
        epochs=4,
        batch_size=64,
        model=AlexNetConfig(
            widths=(16, 32, 64, 64, 48),
            kernels=SMALL.kernels,
            stride=SMALL.stride,
            padding=SMALL.padding,
            groups=1,
            hidden=128,
            dropout=0.2,
            normalisation="batch",
        ),
        optimizer=Optimizer("adamw", 2e-3, weight_decay=1e-2, schedule="cosine"),
        bar=0.96,
    ),
)
LONG_RECIPES = (
    AlexNetRecipe(
        dataset="fashion-mnist",
        epochs=9,
        batch_size=256,
        validation_share=0.05,
        label_smoothing=0.1,
        precision="auto",
        memory_format="auto",
        model=SMALL,
        optimizer=SWIFT,
        augmentation=Augmentation(flip=True, crop=2),
        bar=0.92,
    ),
    AlexNetRecipe(
        dataset="cifar10",
        epochs=7,
        batch_size=256,
        validation_share=0.05,
        label_smoothing=0.1,
        precision="auto",
        memory_format="auto",
        model=SMALL,
        optimizer=SWIFT,
        augmentation=Augmentation(flip=True, crop=3),
        bar=0.78,
    ),
)
