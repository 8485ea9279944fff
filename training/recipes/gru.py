"""Recipes for the gated recurrent unit, on series and texts."""

from dataclasses import dataclass, replace
from typing import ClassVar

from training.optimizer import Optimizer
from training.recurrent_recipe import WRITING, RecurrentRecipe, TextSettings
from zoo.layers.recurrence import Recurrence
from zoo.models.gru import GRU, GRUConfig


@dataclass(frozen=True, kw_only=True)
class GRURecipe(RecurrentRecipe):
    """The gated recurrent unit (Cho et al. 2014)."""

    model: GRUConfig = GRUConfig()

    architecture: ClassVar[str] = "gru"
    paper: ClassVar[str] = "Cho et al. 2014"
    parameters: ClassVar[int] = 3_393

    def build_network(self, inputs: int) -> Recurrence:
        return GRU(self.model, inputs)


TEXT_RECIPE = GRURecipe(
    dataset="text:PATH",
    epochs=8,
    batch_size=32,
    validation_share=0.05,
    precision="auto",
    model=GRUConfig(width=256),
    optimizer=WRITING,
    text=TextSettings(context=128),
)
RECIPES = (
    GRURecipe(
        dataset="sunspots",
        epochs=200,
        batch_size=32,
        threads=1,
        window=22,
        horizon=1,
        patience=40,
        log_every=5,
        model=GRUConfig(width=32),
        optimizer=Optimizer("adam", 3e-3),
        bar=0.7,
    ),
    # The network reads two days at once, so the month before becomes 15 steps.
    GRURecipe(
        dataset="etth1",
        epochs=8,
        batch_size=256,
        window=720,
        horizon=96,
        segment=48,
        patience=8,
        output_dropout=0.5,
        model=GRUConfig(width=128),
        optimizer=Optimizer("adamw", 2e-3, weight_decay=1e-2, schedule="cosine"),
        bar=1.0,
    ),
    replace(
        TEXT_RECIPE,
        dataset="python-topics",
        epochs=3,
        threads=1,
        precision="32-true",  # so small that the precision probe takes longer than it saves
        model=GRUConfig(width=128),
        bar=2.3,
    ),
    replace(TEXT_RECIPE, dataset="tiny-shakespeare", bar=3.0),
)
