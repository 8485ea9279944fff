"""What the recipes of the recurrent networks have in common: they forecast series."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from lightning_fabric import Fabric
from torch import nn

from training.datasets import Data
from training.datasets.csv_file import dataset_name
from training.datasets.time_series import load_series, windows
from training.forecast_report import add_forecasts
from training.objectives.base import Objective
from training.objectives.forecasting import Forecast
from training.optimizer import Optimizer
from training.recipe import Recipe
from training.report import Report, Trained
from zoo.errors import ZooError
from zoo.layers.forecaster import Forecaster
from zoo.tasks import Task
from zoo.tasks.forecasting import Forecasting


@dataclass(frozen=True, kw_only=True)
class RecurrentRecipe(Recipe, ABC):
    """A recipe whose model reads a sequence."""

    validation_share: float = 0.15
    """Share of the training split, its end, held out for validation and for the width of intervals, where
    the data set has no such split."""
    optimizer: Optimizer = Optimizer()
    window: int = 24
    """Steps of history that a forecast is made from."""
    horizon: int = 1
    """Steps ahead."""
    segment: int = 1
    """Steps that are read at once; the window is a multiple of it."""
    relative: bool = True
    """Reads and forecasts distances from the last value, so that a new level is no surprise."""
    output_dropout: float = 0.0
    """Share of what was read silenced while training."""
    loss: Literal["mse", "mae"] = "mse"
    """Squared error, or absolute error, which outliers pull less at."""
    clip: float = 1.0
    """Largest norm of the gradient: longer ones are shortened, as through time they may grow without bound
    (Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063)."""
    time: str | None = None
    """Column of times; for csv: data sets."""
    value: str | None = None
    """Columns to forecast, separated by commas; for csv: data sets."""

    kinds: ClassVar[tuple[str, ...]] = ("forecasting",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segment < 1 or self.window % self.segment:
            raise ZooError(
                f"window must be a multiple of segment, which {self.window} is not of {self.segment}"
            )
        if self.clip <= 0:
            raise ZooError(f"clip must be above 0, not {self.clip}")

    @property
    def dataset_name(self) -> str:
        return dataset_name(self.dataset)

    def load_data(self) -> Data:
        data = load_series(self.dataset, self.time, self.value)
        if data.kind not in self.kinds:
            return data  # of which no task can be fitted
        if data.validation is None and not self.validation_share:
            raise ZooError("intervals are measured on validation windows: raise --validation-share above 0")
        return windows(data, self.window, self.horizon, self.validation_share)

    def fit_task(self, data: Data) -> Task:
        return super().fit_task(data).model_copy(update={"multiple": self.segment})

    def build_model(self, task: Task) -> nn.Module:
        assert isinstance(task, Forecasting)
        network, width = self.build_network(self.segment)
        return Forecaster(network, width, self.segment, task.horizon, self.relative, self.output_dropout)

    @abstractmethod
    def build_network(self, inputs: int) -> tuple[nn.Module, int]:
        """The recurrent network over sequences [B, T, inputs], and the width of its outputs."""

    def build_objective(self, model: nn.Module, task: Task, fabric: Fabric, steps: int) -> Objective:
        assert isinstance(task, Forecasting)
        return Forecast(model, task, self.optimizer, fabric, steps, self.loss, self.clip)

    def report(self, trained: Trained) -> Report:
        reported = super().report(trained)
        add_forecasts(reported, trained)
        return reported
