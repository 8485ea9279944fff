"""Recipes for the perceptron: Rosenblatt's rule on separable, nearly separable, and inseparable data."""

from dataclasses import dataclass
from typing import ClassVar

from lightning_fabric import Fabric
from torch import nn

from training.datasets import Data
from training.datasets.csv_file import dataset_name, load_table
from training.objectives.base import Objective
from training.objectives.perceptron_rule import PerceptronRule
from training.recipe import Recipe
from zoo.errors import ZooError
from zoo.models.perceptron import Perceptron, PerceptronConfig
from zoo.tasks import Task
from zoo.tasks.tabular_classification import TabularClassification


@dataclass(frozen=True, kw_only=True)
class PerceptronRecipe(Recipe):
    """Perceptron, trained by correcting its mistakes (Rosenblatt 1958)."""

    model: PerceptronConfig = PerceptronConfig()
    learning_rate: float = 1.0
    """Size of a correction; with zero initial weights it only scales them and changes no answer."""
    target: str | None = None
    """Column to predict; for csv: data sets."""

    architecture: ClassVar[str] = "perceptron"
    paper: ClassVar[str] = "Rosenblatt 1958"
    parameters: ClassVar[int] = 31
    kinds: ClassVar[tuple[str, ...]] = ("tabular_classification",)

    @property
    def dataset_name(self) -> str:
        return dataset_name(self.dataset)

    def load_data(self) -> Data:
        return load_table(self.dataset, self.target)

    def build_model(self, task: Task) -> nn.Module:
        assert isinstance(task, TabularClassification)
        if len(task.labels) != 2:
            raise ZooError(f"a perceptron separates two classes, not {len(task.labels)}; choose the MLP")
        return Perceptron(self.model, len(task.feature_names))

    def build_objective(self, model: nn.Module, task: Task, fabric: Fabric, steps: int) -> Objective:
        assert isinstance(task, TabularClassification)
        assert isinstance(model, Perceptron)
        return PerceptronRule(model, task, self.learning_rate, fabric)


# Patience as long as the run: never stops early, but keeps the best weights (Gallant's pocket).
RECIPES = (
    PerceptronRecipe(dataset="breast-cancer", epochs=100, batch_size=0, threads=1, patience=100, bar=0.95),
    PerceptronRecipe(dataset="iris-setosa", epochs=20, batch_size=0, threads=1, patience=20, bar=1.0),
    # No weights reach this bar: a line classifies at most three of the four corners correctly.
    PerceptronRecipe(dataset="xor", epochs=50, batch_size=0, threads=1, patience=50, bar=0.95),
)
