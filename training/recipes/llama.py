"""Recipes for a Llama-style decoder, on texts."""

from dataclasses import dataclass, replace
from typing import ClassVar

from lightning_fabric import Fabric
from torch import nn

from training.datasets import Data, text_file
from training.llama_graph import HEAD_MULTIPLE
from training.objectives.base import Objective
from training.objectives.language_modelling import NextTokenInContext
from training.optimizer import Optimizer
from training.recipe import Recipe
from zoo.errors import ZooError
from zoo.models.llama import Llama, LlamaConfig
from zoo.tasks import Task
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.memory import KeyValueCache


@dataclass(frozen=True, kw_only=True)
class LlamaRecipe(Recipe):
    """A decoder with rotary positions and gated layers (Touvron et al. 2023)."""

    validation_share: float = 0.05
    """Share of the training split, at its end, held out for validation if the data set has no such split."""
    model: LlamaConfig = LlamaConfig()
    optimizer: Optimizer = Optimizer()
    vocabulary: int = 0
    """Number of tokens of the byte-pair encoding; 0 makes each character a token."""
    context: int = 64
    """Number of tokens per training sequence, and the model's window if it sets none."""
    places: int = 2048
    """Maximum number of tokens of a text, including the prompt."""
    accumulate: int = 1
    """Number of parts into which a batch is divided to save memory; their gradients are added for one
    update."""
    clip: float = 1.0
    """Maximum norm of the gradient; larger gradients are clipped."""

    architecture: ClassVar[str] = "llama"
    paper: ClassVar[str] = "Touvron et al. 2023"
    parameters: ClassVar[int] = 751_744
    kinds: ClassVar[tuple[str, ...]] = ("language_modelling",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.accumulate < 1:
            raise ZooError(f"accumulate must be at least 1, not {self.accumulate}")
        if self.clip <= 0:
            raise ZooError(f"clip must be above 0, not {self.clip}")
        if self.model.head_width % HEAD_MULTIPLE:
            raise ZooError(
                f"heads must be a multiple of {HEAD_MULTIPLE} wide, not {self.model.head_width}: "
                "choose another --model.width or number of --model.heads"
            )

    @property
    def dataset_name(self) -> str:
        return text_file.dataset_name(self.dataset)

    def load_data(self) -> Data:
        data = text_file.load_text(self.dataset)
        if data.kind not in self.kinds:
            return data  # fitting a task to it fails
        data = text_file.hold_out_end(data, self.validation_share)
        return replace(data, schema=replace(data.schema, vocabulary=self.vocabulary))

    def fit_task(self, data: Data) -> Task:
        task, model = super().fit_task(data), self.model
        memory = KeyValueCache(layers=model.layers, heads=model.key_value_heads, width=model.head_width)
        return task.model_copy(update={"context": self.context, "memory": memory, "places": self.places})

    def build_model(self, task: Task) -> nn.Module:
        assert isinstance(task, LanguageModelling)
        return Llama(replace(self.model, window=self.model.window or self.context), task.vocabulary)

    def build_objective(self, model: nn.Module, task: Task, fabric: Fabric, steps: int) -> Objective:
        assert isinstance(model, Llama)
        assert isinstance(task, LanguageModelling)
        return NextTokenInContext(model, task, self.optimizer, fabric, steps, self.clip, self.accumulate)


# Learning rates from 0.03 to 0.06 give nearly the same loss.
MUON = Optimizer(
    "muon",
    0.04,
    momentum=0.9,
    betas=(0.9, 0.95),
    weight_decay=1e-2,
    other_learning_rate=1e-2,
    schedule="cosine",
    warmup=0.05,
)
TEXT_RECIPE = LlamaRecipe(
    dataset="text:PATH",
    epochs=3,
    batch_size=16,
    precision="auto",
    model=LlamaConfig(layers=4, width=256, heads=4, key_value_heads=4, dropout=0.1),
    optimizer=MUON,
    context=256,
)
RECIPES = (
    LlamaRecipe(
        dataset="python-topics",
        epochs=1,
        batch_size=8,
        threads=1,
        model=LlamaConfig(layers=4, width=128, heads=4, key_value_heads=2),
        optimizer=MUON,
        context=128,
        bar=2.3,
    ),
)
# The play in the last tenth begins just before it: for a model that has not read the names of its persons,
# the loss is higher by 0.13 nats per character.
LONG_RECIPES = (replace(TEXT_RECIPE, dataset="tiny-shakespeare", validation_share=0.005, bar=2.5),)
