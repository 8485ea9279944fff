"""Recipes for the simple recurrent network, on series and texts."""

from dataclasses import dataclass, replace
from typing import ClassVar

from training.optimizer import Optimizer
from training.recurrent_recipe import WRITING, RecurrentRecipe, TextSettings
from zoo.layers.recurrence import Recurrence
from zoo.models.rnn import RNN, RNNConfig


@dataclass(frozen=True, kw_only=True)
class RNNRecipe(RecurrentRecipe):
    """The simple recurrent network (Elman 1990)."""

    model: RNNConfig = RNNConfig()

    architecture: ClassVar[str] = "rnn"
    paper: ClassVar[str] = "Elman 1990"
    parameters: ClassVar[int] = 1_153

    def build_network(self, inputs: int) -> Recurrence:
        return RNN(self.model, inputs)


TEXT_RECIPE = RNNRecipe(
    dataset="text:PATH",
    epochs=8,
    batch_size=32,
    validation_share=0.05,
    precision="auto",
    model=RNNConfig(width=256),
    optimizer=WRITING,
    text=TextSettings(context=128),
)
RECIPES = (
    RNNRecipe(
        dataset="sunspots",
        epochs=200,
        batch_size=32,
        threads=1,
        window=22,
        horizon=1,
        patience=40,
        log_every=5,
        model=RNNConfig(width=32),
        optimizer=Optimizer("adam", 3e-3),
        bar=0.72,
    ),
    replace(TEXT_RECIPE, dataset="python-topics", bar=3.0),
    replace(TEXT_RECIPE, dataset="tiny-shakespeare", bar=3.0),
)
