"""Recipes of training runs. A recipe is a typed dataclass whose fields are the hyperparameters.

Each architecture has a final subclass in `training/recipes/`; its fields become command-line options.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal

from lightning_fabric import Fabric
from torch import Tensor, nn

from training import datasets
from training.datasets import Data
from training.objectives.base import Objective
from training.report import Report, Trained, report
from zoo.errors import ZooError
from zoo.tasks import TASKS, Run, Task


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """Hyperparameters that every run has."""

    dataset: str
    """Data set to train on; see `zoo data`."""
    epochs: int
    """Maximum number of passes over the training split."""
    batch_size: int
    """Examples per step, over all devices together; 0 takes the whole training split."""
    seed: int = 0
    """Seed of the initial weights, the order of the examples, dropout and the validation split."""
    validation_share: float = 0.1
    """Share of the training split held out for validation if the data set has no validation split."""
    patience: int | None = None
    """Stop after this many epochs without a better validation loss, and restore the best weights."""
    log_every: int = 1
    """Epochs between validations and logged points."""
    log_steps: int = 50
    """Steps between logged batch losses."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to train on; auto uses a GPU if there is one."""
    threads: int | None = None
    """CPU threads, if torch's default is not suitable: a small model gains nothing from a second thread, and
    waits long for it on a busy machine."""
    precision: Literal["auto", "32-true", "64-true", "bf16-mixed"] = "32-true"
    """Number format of training; auto measures if bf16-mixed is faster. The exported graph is float32."""
    bar: float | None = None
    """Value of the primary test metric that a version must reach to be promoted."""

    architecture: ClassVar[str]
    """Name of the architecture, with hyphens; its files have underscores."""
    paper: ClassVar[str]
    """Authors and year of the source."""
    parameters: ClassVar[int]
    """Number of parameters in its first recipe, stated so that listings need not build the model."""
    kinds: ClassVar[tuple[str, ...]]
    """Kinds of task that the architecture can learn."""
    least_epochs: ClassVar[int] = 1
    """Minimum number of epochs; 0 if the model is useful before it is trained."""

    def __post_init__(self) -> None:
        least = {
            "epochs": self.least_epochs,
            "batch_size": 0,
            "log_every": 1,
            "log_steps": 1,
            "patience": 1,
            "threads": 1,
        }
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise ZooError(f"{name} must be at least {bound}, not {value}")
        if not 0 <= self.validation_share < 1:
            raise ZooError(f"validation_share must be at least 0 and below 1, not {self.validation_share}")

    @property
    def model_name(self) -> str:
        """Name of the registered model."""
        return f"{self.architecture}-{self.dataset_name}"

    @property
    def dataset_name(self) -> str:
        """Name of the data set."""
        return self.dataset

    def load_data(self) -> Data:
        """Loads the data set's raw splits."""
        return datasets.find(self.dataset).load()

    def fit_task(self, data: Data) -> Task:
        """Returns the task, fitted on the training split; raises `ZooError` if the model cannot learn it."""
        self.check_kind(data)
        return TASKS[data.kind].fit(data.train, data.schema)

    def check_kind(self, data: Data) -> None:
        """Raises `ZooError` if the architecture cannot learn the data set's kind of task."""
        if data.kind not in self.kinds:
            learns = " or ".join(self.kinds)
            raise ZooError(f"{self.architecture} learns {learns}; {data.name} is {data.kind}")

    def candidates(self) -> tuple["Recipe", ...]:
        """Returns the recipes that `auto` stands for; the fastest is chosen."""
        if self.precision != "auto":
            return (self,)
        return replace(self, precision="32-true"), replace(self, precision="bf16-mixed")

    def prerequisites(self) -> tuple["Recipe", ...]:
        """Returns the recipes that must have a champion; those without one are trained before this one."""
        return ()

    def rival(self) -> "Recipe | None":
        """Returns the recipe that the trained model is compared with at the same budget, or None."""
        return None

    def pretrain(self, model: nn.Module) -> list[str]:
        """Loads pretrained weights if the recipe has any; returns the parameters that they do not fit."""
        return []

    def kept_weights(self, model: nn.Module) -> dict[str, Tensor]:
        """Returns the weights of a trained model that a run stores for transfer learning."""
        return model.state_dict()

    def evaluate(self, task: Task, run: Run, data: Data) -> dict[str, float]:
        """Returns the test metrics of the exported graph."""
        return task.evaluate(run, data.test)

    @abstractmethod
    def build_model(self, task: Task) -> nn.Module:
        """Builds the model, sized for the task."""

    @abstractmethod
    def build_objective(self, model: nn.Module, task: Task, fabric: Fabric, steps: int) -> Objective:
        """Builds the loss and optimizer for a run of `steps` steps."""

    def report(self, trained: Trained) -> Report:
        """Returns figures, additional metrics and model card sections of a trained model."""
        return report(trained)


def flatten(recipe: Any, prefix: str = "") -> dict[str, Any]:
    """Returns every field by dotted name, including those of nested dataclasses."""
    flat: dict[str, Any] = {}
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if is_dataclass(value):
            flat.update(flatten(value, f"{prefix}{field.name}."))
        else:
            flat[f"{prefix}{field.name}"] = value
    return flat
