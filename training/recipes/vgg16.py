"""Recipes for VGG16: the paper's for photographs in folders, narrow ones for 28 and 32 pixels."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from training.augment import Augmentation
from training.image_recipe import ImageRecipe
from training.optimizer import Optimizer
from training.transfer import Weights
from zoo.errors import ZooError
from zoo.models.vgg16 import VGG16, VGG16Config
from zoo.tasks import Task
from zoo.tasks.image_classification import ImageClassification

NARROW = VGG16Config(batch_norm=True, width=16, hidden=0, dropout=0.1, initial="dirac")
# Large steps that decay to zero: few epochs then reach the accuracy of many epochs with small steps.
SWIFT = Optimizer("muon", 0.05, momentum=0.9, weight_decay=0.05, schedule="cosine", warmup=0.2)


@dataclass(frozen=True, kw_only=True)
class VGG16Recipe(ImageRecipe):
    """VGG16, a deep network of stacked 3x3 convolutions (Simonyan & Zisserman 2014)."""

    model: VGG16Config = VGG16Config()

    architecture: ClassVar[str] = "vgg16"
    paper: ClassVar[str] = "Simonyan & Zisserman 2014"
    parameters: ClassVar[int] = 232_130

    def build_model(self, task: Task) -> nn.Module:
        assert isinstance(task, ImageClassification)
        if task.height != task.width:
            raise ZooError(f"VGG16 takes square images, not {task.height} x {task.width}")
        return VGG16(self.model, task.channels, task.height, len(task.labels))

    def imagenet_weights(self) -> Weights:
        from training.imagenet import vgg16_weights

        return vgg16_weights(self.model.configuration, self.model.batch_norm)


FOLDER_RECIPE = VGG16Recipe(
    dataset="images:PATH",
    epochs=30,
    batch_size=32,
    image_size=224,
    precision="auto",
    memory_format="auto",
    optimizer=Optimizer("sgd", 0.01, momentum=0.9, weight_decay=5e-4, schedule="cosine", warmup=0.05),
    augmentation=Augmentation(flip=True, crop=16, colour=0.2),
)
RECIPES = (
    VGG16Recipe(
        dataset="mnist-5k",
        epochs=4,
        batch_size=64,
        model=VGG16Config(batch_norm=True, width=8, hidden=0, dropout=0.0),
        optimizer=Optimizer("adamw", 3e-3, weight_decay=1e-2, schedule="cosine", warmup=0.2),
        bar=0.96,
    ),
)
LONG_RECIPES = (
    VGG16Recipe(
        dataset="fashion-mnist",
        epochs=13,
        batch_size=256,
        validation_share=0.02,
        label_smoothing=0.1,
        precision="auto",
        memory_format="auto",
        model=NARROW,
        optimizer=SWIFT,
        augmentation=Augmentation(flip=True, crop=2),
        bar=0.93,
    ),
    VGG16Recipe(
        dataset="cifar10",
        epochs=16,
        batch_size=256,
        validation_share=0.02,
        label_smoothing=0.1,
        precision="auto",
        memory_format="auto",
        model=NARROW,
        optimizer=SWIFT,
        augmentation=Augmentation(flip=True, crop=3),
        bar=0.84,
    ),
)
