"""What a run is made of. A recipe is typed Python: its fields are the hyperparameters.

Each architecture has a final subclass in `training/recipes/`; the command line is made from its fields.
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
    """The hyperparameters that every run has."""

    dataset: str
    """Data set to train on; see `zoo data`."""
    epochs: int
    """Passes over the training split, at most."""
    batch_size: int
    """Examples a step, over all devices together; 0 takes the whole training split."""
    seed: int = 0
    """Seed of the initial weights, the order of the examples, dropout and the validation split."""
    validation_share: float = 0.1
    """Share of the training split held out for validation, where the data set has no such split."""
    patience: int | None = None
    """Stop after so many epochs without a better validation loss, and restore the best weights."""
    log_every: int = 1
    """Epochs between validations and logged points."""
    log_steps: int = 50
    """Steps between logged batch losses."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU where there is one."""
    threads: int | None = None
    """CPU threads, where torch's own choice is not good: a small model gains nothing from a second one, and
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
    """Numbers that its first recipe learns: a listing does not build the model to count them."""
    kinds: ClassVar[tuple[str, ...]]
    """Kinds of task that the architecture can learn."""
    least_epochs: ClassVar[int] = 1
    """0 where a model is worth something before it is trained."""

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
        """The data set's raw splits."""
        return datasets.find(self.dataset).load()

    def fit_task(self, data: Data) -> Task:
        """What the model is to do, fitted on the training split; `ZooError` where it cannot learn that."""
        self.check_kind(data)
        return TASKS[data.kind].fit(data.train, data.schema)

    def check_kind(self, data: Data) -> None:
        """`ZooError` where the architecture does not learn what the data set is for."""
        if data.kind not in self.kinds:
            learns = " or ".join(self.kinds)
            raise ZooError(f"{self.architecture} learns {learns}; {data.name} is {data.kind}")

    def candidates(self) -> tuple["Recipe", ...]:
        """The recipes that auto leaves to choose from, by what is fastest."""
        if self.precision != "auto":
            return (self,)
        return replace(self, precision="32-true"), replace(self, precision="bf16-mixed")

    def prerequisites(self) -> tuple["Recipe", ...]:
        """What must have a champion before this is trained; it is trained first where it has none."""
        return ()

    def rival(self) -> "Recipe | None":
        """What the trained model is to be compared with at the same budget, if with anything."""
        return None

    def pretrain(self, model: nn.Module) -> list[str]:
        """Loads weights to start from, if the recipe has any; returns the parameters they do not fit."""
        return []

    def kept_weights(self, model: nn.Module) -> dict[str, Tensor]:
        """What of a trained model a run stores, for others to start from."""
        return model.state_dict()

    def evaluate(self, task: Task, run: Run, data: Data) -> dict[str, float]:
        """Test metrics of the exported graph."""
        return task.evaluate(run, data.test)

    @abstractmethod
    def build_model(self, task: Task) -> nn.Module:
        """The architecture, sized for the task."""

    @abstractmethod
    def build_objective(self, model: nn.Module, task: Task, fabric: Fabric, steps: int) -> Objective:
        """Loss and optimiser for a run of `steps` steps."""

    def report(self, trained: Trained) -> Report:
        """Figures, further metrics and card sections of a trained model."""
        return report(trained)


def flatten(recipe: Any, prefix: str = "") -> dict[str, Any]:
    """Every resolved field by dotted name, nested dataclasses included."""
    flat: dict[str, Any] = {}
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if is_dataclass(value):
            flat.update(flatten(value, f"{prefix}{field.name}."))
        else:
            flat[f"{prefix}{field.name}"] = value
    return flat
