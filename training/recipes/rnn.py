"""The simple recurrent network, on series."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from training.optimizer import Optimizer
from training.recurrent_recipe import RecurrentRecipe
from zoo.models.rnn import RNN, RNNConfig


@dataclass(frozen=True, kw_only=True)
class RNNRecipe(RecurrentRecipe):
    """The simple recurrent network (Elman 1990)."""

    model: RNNConfig = RNNConfig()

    architecture: ClassVar[str] = "rnn"
    paper: ClassVar[str] = "Elman 1990"

    def build_network(self, inputs: int) -> tuple[nn.Module, int]:
        return RNN(self.model, inputs), self.model.width


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
)
