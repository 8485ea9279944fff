"""Common base of the recipes of recurrent networks, which forecast time series or write texts."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from lightning_fabric import Fabric
from torch import nn

from training.datasets import Data, csv_file, text_file
from training.datasets.time_series import load_series, windows
from training.forecast_report import add_forecasts
from training.objectives.base import Objective
from training.objectives.forecasting import Forecast
from training.objectives.language_modelling import NextToken
from training.optimizer import Optimizer
from training.recipe import Recipe
from training.report import Report, Trained
from zoo.errors import ZooError
from zoo.layers.forecaster import Forecaster
from zoo.layers.recurrence import Recurrence
from zoo.layers.recurrent_language_model import RecurrentLanguageModel
from zoo.tasks import Task
from zoo.tasks.forecasting import Forecasting
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.memory import RecurrentState

# After an epoch of Shakespeare, an LSTM's loss is 1.73 nats per character, and 1.87 with adamw. Twice the
# rate and more momentum give 1.66, but then an LSTM of two layers diverges in its second epoch.
WRITING = Optimizer("muon", 0.05, momentum=0.9, weight_decay=1e-2, schedule="cosine", warmup=0.05)


@dataclass(frozen=True)
class TextSettings:
    """Settings of a language model; only for texts."""

    vocabulary: int = 0
    """Number of tokens in a byte-pair encoding; 0 makes each character a token."""
    context: int = 128
    """Number of tokens in a training sequence."""
    embedding: int = 64
    """Width of a token's embedding vector."""
    dropout: float = 0.0
    """Dropout rate of the embeddings and of the network's outputs during training."""


@dataclass(frozen=True, kw_only=True)
class RecurrentRecipe(Recipe, ABC):
    """Recipe of a model that reads a sequence."""

    validation_share: float = 0.15
    """Share at the end of the training split held out for validation and for the width of intervals, if the
    data set has no validation split."""
    optimizer: Optimizer = Optimizer()
    window: int = 24
    """Number of past steps that a forecast is made from."""
    horizon: int = 1
    """Number of steps to forecast."""
    segment: int = 1
    """Number of steps that the network reads at once; the window must be a multiple of it."""
    relative: bool = True
    """Reads and forecasts distances from the last value, so that a change of level does no harm."""
    output_dropout: float = 0.0
    """Dropout rate of the network's output during training."""
    loss: Literal["mse", "mae"] = "mse"
    """Squared error, or absolute error, which is less sensitive to outliers."""
    clip: float = 1.0
    """Maximum norm of the gradient; larger ones are scaled down, because gradients through time may explode
    (Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063)."""
    time: str | None = None
    """Column of times; for csv: data sets."""
    value: str | None = None
    """Columns to forecast, separated by commas; for csv: data sets."""

    text: TextSettings = TextSettings()

    kinds: ClassVar[tuple[str, ...]] = ("forecasting", "language_modelling")

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
        if self._is_text_file:
            return text_file.dataset_name(self.dataset)
        return csv_file.dataset_name(self.dataset)

    @property
    def _is_text_file(self) -> bool:
        return self.dataset.startswith(text_file.PREFIX)

    def load_data(self) -> Data:
        if self._is_text_file:
            data = text_file.load_text(self.dataset)
        else:
            data = load_series(self.dataset, self.time, self.value)
        if data.kind == text_file.KIND:
            data = text_file.hold_out_end(data, self.validation_share)
            return replace(data, schema=replace(data.schema, vocabulary=self.text.vocabulary))
        if data.kind not in self.kinds:
            return data  # for which `fit_task` raises an error
        if data.validation is None and not self.validation_share:
            raise ZooError("intervals are measured on validation windows: raise --validation-share above 0")
        return windows(data, self.window, self.horizon, self.validation_share)

    def fit_task(self, data: Data) -> Task:
        task = super().fit_task(data)
        if isinstance(task, LanguageModelling):
            memory = RecurrentState(shape=self.build_network(self.text.embedding).state_shape)
            return task.model_copy(update={"context": self.text.context, "memory": memory})
        return task.model_copy(update={"multiple": self.segment})

    def build_model(self, task: Task) -> nn.Module:
        if isinstance(task, LanguageModelling):
            network, text = self.build_network(self.text.embedding), self.text
            return RecurrentLanguageModel(network, task.vocabulary, text.embedding, text.dropout)
        assert isinstance(task, Forecasting)
        network = self.build_network(self.segment)
        return Forecaster(network, self.segment, task.horizon, self.relative, self.output_dropout)

    @abstractmethod
    def build_network(self, inputs: int) -> Recurrence:
        """Builds the recurrent network over sequences [B, T, inputs]."""

    def build_objective(self, model: nn.Module, task: Task, fabric: Fabric, steps: int) -> Objective:
        if isinstance(task, LanguageModelling):
            return NextToken(model, task, self.optimizer, fabric, steps, self.clip)
        assert isinstance(task, Forecasting)
        return Forecast(model, task, self.optimizer, fabric, steps, self.loss, self.clip)

    def report(self, trained: Trained) -> Report:
        reported = super().report(trained)
        if isinstance(trained.task, Forecasting):
            add_forecasts(reported, trained)
        return reported
