"""Recipes for linear regression by gradient descent, with tests of its four assumptions."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from lightning_fabric import Fabric
from torch import nn

from training.datasets import Data
from training.datasets.csv_file import dataset_name, load_table
from training.objectives.base import Objective
from training.objectives.regression import Regression
from training.optimizer import Optimizer
from training.recipe import Recipe
from training.report import Report, Trained, report
from zoo.models.linear_regression import LinearRegression, LinearRegressionConfig
from zoo.tasks import Task
from zoo.tasks.tabular_regression import TabularRegression


@dataclass(frozen=True, kw_only=True)
class LinearRegressionRecipe(Recipe):
    """Linear regression: mean squared error by gradient descent (Legendre 1805)."""

    model: LinearRegressionConfig = LinearRegressionConfig()
    optimizer: Optimizer = Optimizer("sgd", learning_rate=0.1)
    gradient: Literal["hand", "autograd"] = "hand"
    """Source of the gradient: explicit formulas, or torch's autograd."""
    target: str | None = None
    """Column to predict; for csv: data sets."""

    architecture: ClassVar[str] = "linear-regression"
    paper: ClassVar[str] = "Legendre 1805"
    parameters: ClassVar[int] = 11
    kinds: ClassVar[tuple[str, ...]] = ("tabular_regression",)

    @property
    def dataset_name(self) -> str:
        return dataset_name(self.dataset)

    def load_data(self) -> Data:
        return load_table(self.dataset, self.target)

    def build_model(self, task: Task) -> nn.Module:
        assert isinstance(task, TabularRegression)
        return LinearRegression(self.model, len(task.feature_names))

    def build_objective(self, model: nn.Module, task: Task, fabric: Fabric, steps: int) -> Objective:
        assert isinstance(task, TabularRegression)
        return Regression(model, task, self.optimizer, fabric, steps, self.gradient)

    def report(self, trained: Trained) -> Report:
        """Returns the usual report, with tests of the four assumptions."""
        from training.diagnostics import assumptions  # statsmodels takes a second to import

        usual, tested = report(trained), assumptions(trained)
        return Report(usual.figures | tested.figures, tested.metrics, tested.sections)


# Batch gradient descent. The features' correlation matrix has eigenvalues from 0.009 to 3.97; the curvature
# of the loss is twice as large, so 2 / 7.94 = 0.25 is the largest stable rate, and the flattest direction
# takes thousands of steps.
DIABETES = LinearRegressionRecipe(
    dataset="diabetes",
    epochs=6000,
    batch_size=0,
    threads=1,
    validation_share=0.0,  # the reference split has no validation: all 353 rows are fitted
    precision="64-true",
    optimizer=Optimizer("sgd", learning_rate=0.2),
    log_every=20,
    log_steps=100,
    bar=2900.3,
)
RECIPES = (DIABETES,)

# Adam, because no single learning rate of plain gradient descent is stable on every table.
CSV_RECIPE = LinearRegressionRecipe(
    dataset="csv:PATH",
    epochs=2000,
    batch_size=0,
    threads=1,
    validation_share=0.0,
    precision="64-true",
    optimizer=Optimizer("adam", learning_rate=0.05, schedule="cosine"),
    log_every=20,
    log_steps=100,
)
