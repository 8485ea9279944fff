"""Recipes for LeNet-5 on MNIST and similar data sets."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from training.image_recipe import ImageRecipe
from training.optimizer import Optimizer
from zoo.errors import ZooError
from zoo.models.lenet5 import LeNet5, LeNet5Config
from zoo.tasks import Task
from zoo.tasks.image_classification import ImageClassification


@dataclass(frozen=True, kw_only=True)
class LeNet5Recipe(ImageRecipe):
    """LeNet-5, a convolutional network that was used to read cheques (LeCun et al. 1998)."""

    model: LeNet5Config = LeNet5Config(activation="relu", pooling="max")

    architecture: ClassVar[str] = "lenet5"
    paper: ClassVar[str] = "LeCun et al. 1998"
    parameters: ClassVar[int] = 61_706

    def build_model(self, task: Task) -> nn.Module:
        assert isinstance(task, ImageClassification)
        if task.height != task.width:
            raise ZooError(f"LeNet-5 takes square images, not {task.height} x {task.width}")
        return LeNet5(self.model, task.channels, task.height, len(task.labels))


# The modern variant (ReLU, max pooling); `--model.activation tanh --model.pooling average` is the paper's.
RECIPES = (
    LeNet5Recipe(
        dataset="mnist-5k",
        epochs=20,
        batch_size=64,
        optimizer=Optimizer("adamw", 2e-3, weight_decay=1e-2, schedule="cosine"),
        bar=0.96,
    ),
    LeNet5Recipe(
        dataset="mnist",
        epochs=20,
        batch_size=128,
        validation_share=1 / 12,
        optimizer=Optimizer("adamw", 2e-3, weight_decay=5e-2, schedule="cosine"),
        bar=0.9905,
    ),
    LeNet5Recipe(
        dataset="fashion-mnist",
        epochs=20,
        batch_size=128,
        validation_share=1 / 12,
        optimizer=Optimizer("adamw", 2e-3, weight_decay=5e-2, schedule="cosine"),
        bar=0.905,
    ),
)
