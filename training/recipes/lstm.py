"""Recipes for the long short-term memory, on series and texts."""

from dataclasses import dataclass, replace
from typing import ClassVar

from training.optimizer import Optimizer
from training.recurrent_recipe import WRITING, RecurrentRecipe, TextSettings
from zoo.layers.recurrence import Recurrence
from zoo.models.lstm import LSTM, LSTMConfig


@dataclass(frozen=True, kw_only=True)
class LSTMRecipe(RecurrentRecipe):
    """The long short-term memory (Hochreiter & Schmidhuber 1997)."""

    model: LSTMConfig = LSTMConfig()

    architecture: ClassVar[str] = "lstm"
    paper: ClassVar[str] = "Hochreiter & Schmidhuber 1997"
    parameters: ClassVar[int] = 4_513

    def build_network(self, inputs: int) -> Recurrence:
        return LSTM(self.model, inputs)


TEXT_RECIPE = LSTMRecipe(
    dataset="text:PATH",
    epochs=8,
    batch_size=32,
    validation_share=0.05,
    precision="auto",
    model=LSTMConfig(width=256),
    optimizer=WRITING,
    text=TextSettings(context=128),
)
RECIPES = (
    LSTMRecipe(
        dataset="sunspots",
        epochs=200,
        batch_size=32,
        threads=1,
        window=22,
        horizon=1,
        patience=40,
        log_every=5,
        model=LSTMConfig(width=32),
        optimizer=Optimizer("adam", 3e-3),
        bar=0.7,
    ),
    # Forecasts the coming year from the last two; the network reads four weeks at once.
    LSTMRecipe(
        dataset="co2",
        epochs=30,
        batch_size=64,
        threads=1,
        window=104,
        horizon=52,
        segment=4,
        patience=30,
        model=LSTMConfig(width=64),
        optimizer=Optimizer("adamw", 3e-3, weight_decay=1e-2, schedule="cosine"),
        bar=0.5,  # the linear map's
    ),
    replace(TEXT_RECIPE, dataset="python-topics", bar=3.0),
    replace(TEXT_RECIPE, dataset="tiny-shakespeare", bar=2.4),
)
