"""Trainings that tests share: each recipe of the data sets that packages carry, a few of them cut short."""

import ast
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Self

from training import datasets, pipeline, recipes
from training.datasets import Data
from training.datasets.text_file import load_text
from training.loop import Points, Progress
from training.pipeline import Prepared, RunResult
from training.recipe import Recipe
from training.side_by_side import Outcome, train_side_by_side
from zoo.errors import ZooError
from zoo.models.llama import LlamaConfig

FETCHED = {  # data sets that no package carries
    "cifar10",
    "mnist",
    "fashion-mnist",
    "etth1",
    "tiny-shakespeare",
    "shakespeare",
    "multi30k-de-en",
    "multi30k-en-fr",
    "debian-summaries",
    "chatterbot",
}
TEXT = f"text:{ast.__file__}"
"""60 kB that every Python has: what the recurrent networks and small language models learn to write."""
LEFT_OUT = {  # their kinds are trained on other data sets
    ("mlp", "breast-cancer"),
    ("transformer", "numbers-en-de"),
    ("transformer", "docstrings"),
    ("rnn", "python-topics"),
    ("lstm", "python-topics"),
    ("smollm2", "python-topics"),  # its weights are fetched
}
Key = tuple[str, str]  # architecture, data set

SHORTER = {
    ("mlp", "digits"): {"epochs": 3, "bar": 0.8},
    ("lenet5", "mnist-5k"): {"epochs": 1, "bar": 0.5},
    ("alexnet", "mnist-5k"): {"epochs": 1, "bar": 0.5},
    ("vgg16", "mnist-5k"): {"epochs": 1, "bar": 0.5},
    ("efficientnet-lite0", "mnist-5k"): {"epochs": 1, "validation_share": 0.8, "bar": 0.2},
    ("gan", "mnist-5k"): {"epochs": 2, "bar": None},
    ("transformer", "numbers-en-fr"): {"epochs": 1, "validation_share": 0.8, "bar": None},
    ("gru", "python-topics"): {"epochs": 1, "bar": 3.5},
    ("llama", "python-topics"): {
        "epochs": 1,
        "model": LlamaConfig(layers=2, width=32, heads=2, key_value_heads=1),
        "bar": 4.0,
    },
    ("lstm", "co2"): {"epochs": 2, "bar": None},
    **{(name, "sunspots"): {"epochs": 20, "bar": 1.0} for name in ("rnn", "lstm", "gru")},
}
_ALL = {
    (name, dataset): replace(recipe, **SHORTER.get((name, dataset), {}))
    for name in recipes.names()
    for dataset, recipe in recipes.recipes(name).items()
    if dataset not in FETCHED and (name, dataset) not in LEFT_OUT
}
for name in ("rnn", "lstm"):
    _ALL[name, TEXT] = replace(
        recipes.recipe_for(name, TEXT),
        epochs=2,
        batch_size=8,
        precision="32-true",
        model=replace(recipes.recipe_for(name).model, width=32),  # type: ignore[attr-defined]
        bar=6.5,
    )
# What others need comes before them.
QUICK: dict[Key, Recipe] = dict(sorted(_ALL.items(), key=lambda item: len(item[1].prerequisites())))
UNLEARNABLE = ("perceptron", "xor")


@dataclass(frozen=True)
class QuickZoo:
    """A home in which every quick recipe was trained once."""

    home: Path
    results: dict[Key, RunResult]

    @classmethod
    def train(cls, home: Path) -> Self:
        """Trains all of them into `home`, which is ZOO_HOME."""
        ended = train_side_by_side(list(QUICK.values()))
        return cls(home, {key: _result(ended[recipe.model_name]) for key, recipe in QUICK.items()})


@cache
def raw(dataset: str) -> Data:
    """A data set, read once: some are text files that take a second."""
    return load_text(dataset) if dataset == TEXT else datasets.find(dataset).load()


def fitted(recipe: Recipe) -> tuple[Prepared, Progress]:
    """A recipe trained by the loop alone: nothing tracked, nothing exported."""
    with pipeline.torch_settings(recipe):
        prepared = pipeline.prepare(recipe)
        return prepared, pipeline.train_prepared(prepared, _ignore)


def _result(outcome: Outcome) -> RunResult:
    if isinstance(outcome, ZooError):
        raise outcome
    return outcome


def _ignore(progress: Progress, points: Points) -> None:
    pass
