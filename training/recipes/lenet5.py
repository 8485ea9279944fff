"""LeNet-5 on MNIST and what took its place."""

from dataclasses import dataclass
from typing import ClassVar

from lightning_fabric import Fabric
from torch import nn

from training.objectives.base import Objective
from training.objectives.classification import Classification
from training.optimizer import Optimizer
from training.recipe import Recipe
from zoo.errors import ZooError
from zoo.models.lenet5 import LeNet5, LeNet5Config
from zoo.tasks import Task
from zoo.tasks.image_classification import ImageClassification


@dataclass(frozen=True, kw_only=True)
class LeNet5Recipe(Recipe):
    """LeNet-5, the convolutional network that read cheques (LeCun et al. 1998)."""

    model: LeNet5Config = LeNet5Config(activation="relu", pooling="max")
    optimizer: Optimizer = Optimizer()
    label_smoothing: float = 0.0
    """Probability mass moved from the target class to all classes."""

    architecture: ClassVar[str] = "lenet5"
    paper: ClassVar[str] = "LeCun et al. 1998"
    kinds: ClassVar[tuple[str, ...]] = ("image_classification",)

    def build_model(self, task: Task) -> nn.Module:
        assert isinstance(task, ImageClassification)
        if task.height != task.width:
            raise ZooError(f"LeNet-5 takes square images, not {task.height} x {task.width}")
        return LeNet5(self.model, task.channels, task.height, len(task.labels))

    def build_objective(self, model: nn.Module, task: Task, fabric: Fabric, steps: int) -> Objective:
        assert isinstance(task, ImageClassification)
        return Classification(model, task, self.optimizer, fabric, steps, self.label_smoothing)


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
