"""Recipes for the multilayer perceptron: classification and regression, on images and tables."""

from dataclasses import dataclass
from typing import ClassVar

from lightning_fabric import Fabric
from torch import nn

from training.datasets import Data
from training.datasets.csv_file import dataset_name, load_table
from training.objectives.base import Objective
from training.objectives.classification import Classification
from training.objectives.regression import Regression
from training.optimizer import Optimizer
from training.recipe import Recipe
from zoo.errors import ZooError
from zoo.models.mlp import MLP, MLPConfig
from zoo.tasks import Task
from zoo.tasks.image_classification import ImageClassification
from zoo.tasks.tabular_classification import TabularClassification
from zoo.tasks.tabular_regression import TabularRegression


@dataclass(frozen=True, kw_only=True)
class MLPRecipe(Recipe):
    """Multilayer perceptron, trained by back-propagation (Rumelhart, Hinton & Williams 1986)."""

    model: MLPConfig = MLPConfig()
    optimizer: Optimizer = Optimizer()
    label_smoothing: float = 0.0
    """Probability mass moved from the target class to all classes (classification)."""
    target: str | None = None
    """Column to predict; for csv: data sets."""

    architecture: ClassVar[str] = "mlp"
    paper: ClassVar[str] = "Rumelhart et al. 1986"
    parameters: ClassVar[int] = 50_826
    kinds: ClassVar[tuple[str, ...]] = (
        "tabular_regression",
        "tabular_classification",
        "image_classification",
    )

    @property
    def dataset_name(self) -> str:
        return dataset_name(self.dataset)

    def load_data(self) -> Data:
        return load_table(self.dataset, self.target)

    def build_model(self, task: Task) -> nn.Module:
        match task:
            case ImageClassification():
                return MLP(self.model, task.height * task.width * task.channels, len(task.labels))
            case TabularClassification():
                return MLP(self.model, len(task.feature_names), len(task.labels))
            case TabularRegression():
                return MLP(self.model, len(task.feature_names), 1)
        raise ZooError(f"the MLP does not learn {type(task).__name__}")

    def build_objective(self, model: nn.Module, task: Task, fabric: Fabric, steps: int) -> Objective:
        if isinstance(task, TabularRegression):
            return Regression(model, task, self.optimizer, fabric, steps)
        assert isinstance(task, TabularClassification | ImageClassification)
        return Classification(model, task, self.optimizer, fabric, steps, self.label_smoothing)


CSV_RECIPE = MLPRecipe(
    dataset="csv:PATH",
    epochs=200,
    batch_size=32,
    threads=1,
    validation_share=0.15,
    patience=20,
    model=MLPConfig(hidden=(64, 64)),
    optimizer=Optimizer("adam", 3e-3, weight_decay=1e-3),
)
RECIPES = (
    MLPRecipe(
        dataset="digits",
        epochs=60,
        batch_size=64,
        threads=1,
        model=MLPConfig(hidden=(256, 128), dropout=0.3),
        optimizer=Optimizer("adamw", 2e-3, weight_decay=1e-2, schedule="cosine"),
        bar=0.97,
    ),
    MLPRecipe(
        dataset="xor",
        epochs=100,
        batch_size=32,
        threads=1,
        model=MLPConfig(hidden=(8,), activation="tanh"),
        optimizer=Optimizer("adam", 2e-2),
        bar=0.95,
    ),
    MLPRecipe(
        dataset="diabetes",
        epochs=200,
        batch_size=32,
        threads=1,
        validation_share=0.15,
        patience=20,
        model=MLPConfig(hidden=(32,), dropout=0.1),
        optimizer=Optimizer("adam", 3e-3, weight_decay=1e-3),
        bar=3200.0,
    ),
    MLPRecipe(
        dataset="breast-cancer",
        epochs=100,
        batch_size=32,
        threads=1,
        patience=20,
        model=MLPConfig(hidden=(32,)),
        optimizer=Optimizer("adam", 3e-3, weight_decay=1e-3),
        bar=0.95,
    ),
    MLPRecipe(
        dataset="mnist",
        epochs=30,
        batch_size=128,
        validation_share=1 / 12,
        model=MLPConfig(hidden=(512, 512), dropout=0.3),
        optimizer=Optimizer("adamw", 1e-3, weight_decay=1e-2, schedule="cosine"),
        bar=0.983,
    ),
    MLPRecipe(
        dataset="fashion-mnist",
        epochs=40,
        batch_size=128,
        validation_share=1 / 12,
        model=MLPConfig(hidden=(1024, 512), dropout=0.4),
        optimizer=Optimizer("adamw", 1e-3, weight_decay=1e-2, schedule="cosine"),
        bar=0.895,
    ),
)
