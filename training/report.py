"""Report on a trained model, in addition to its test metrics: figures and the model card."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from training import figures
from training.datasets import Data
from training.loop import Progress
from zoo.graph import Graph, GraphSet
from zoo.tasks import Task
from zoo.tasks.base import run_in_batches
from zoo.tasks.image_classification import ImageClassification
from zoo.tasks.image_generation import ImageGeneration, pixels
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.sequence_to_sequence import SequenceToSequence
from zoo.tasks.tabular_classification import TabularClassification
from zoo.tasks.tabular_regression import TabularRegression

if TYPE_CHECKING:
    from training.recipe import Recipe

Latents = NDArray[np.float32]

COLUMNS = 10  # images per row of a figure of generated images
SHOWN_CLASSES = 12  # maximum number of classes in a figure, one row each


@dataclass(frozen=True)
class Trained:
    """A trained and exported model, before it is bundled."""

    recipe: "Recipe"
    data: Data
    task: Task
    progress: Progress
    module: nn.Module
    """The torch module that was exported."""
    run: Graph | GraphSet
    """The exported graph or graphs."""
    metrics: dict[str, float]
    """Test metrics, measured through the graph."""
    parameters: int


@dataclass
class Report:
    """Figures, metrics and card sections that are added to a run."""

    figures: dict[str, Figure] = field(default_factory=dict)
    """Figures by file stem."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Additional metrics, by name."""
    sections: list[str] = field(default_factory=list)
    """Lines or blocks of Markdown for the model card."""


def report(trained: Trained) -> Report:
    """Returns learning curves and the figures for the kind of task."""
    if isinstance(trained.task, ImageGeneration):
        return _generator_report(trained, trained.task)
    drawn = {"learning_curves": figures.learning_curves(trained.progress.history)}
    if isinstance(trained.task, SequenceToSequence):
        return Report(drawn)
    if isinstance(trained.task, LanguageModelling):
        written = trained.task.answer(trained.run, trained.task.sample)["text"]
        return Report(
            drawn, sections=["## What it writes", "", *(f"    {s}" for s in written.split("\n")), ""]
        )
    task, test = trained.task, trained.data.test
    inputs = {name: test[name].astype(a.dtype) for name, a in task.example_inputs(1).items()}
    output = run_in_batches(trained.run, inputs)[task.outputs[0]]
    match task:
        case TabularRegression():
            drawn["predictions"] = figures.predicted_against_actual(
                test["target"], output, task.target, task.unit
            )
        case TabularClassification() | ImageClassification():
            drawn["confusion"] = figures.confusion(test["target"], output.argmax(axis=1), task.labels)
            if isinstance(task, ImageClassification) and trained.metrics["accuracy"] < 1:
                drawn["worst_mistakes"] = figures.worst_mistakes(
                    test["image"], test["target"], output, task.labels
                )
    if (weights := _first_weights(trained)) is not None:
        drawn["first_weights"] = weights
    return Report(figures=drawn)


def card(trained: Trained, sections: list[str]) -> str:
    """Returns the model card in Markdown."""
    recipe, data, task = trained.recipe, trained.data, trained.task
    rows = [f"| {name} | {value:.6g} |" for name, value in trained.metrics.items()]
    splits = {"training": data.train, "validation": data.validation, "test": data.test}
    sizes = ", ".join(f"{len(split['target']):,} {name}" for name, split in splits.items() if split)
    return "\n".join(
        [
            f"# {recipe.model_name}",
            "",
            f"{recipe.architecture} ({recipe.paper}) for {task.model_dump()['kind'].replace('_', ' ')}, "
            f"{trained.parameters:,} parameters, trained for {trained.progress.epoch} epochs "
            f"in {trained.progress.seconds:.1f} s.",
            "",
            "## Data",
            "",
            f"{data.name} ({data.source}): {sizes} examples.",
            "",
            "## Test metrics, measured through the exported graph",
            "",
            "| metric | value |",
            "|---|---|",
            *rows,
            "",
            *sections,
            "## Use",
            "",
            f"`POST {task.endpoint}` with `model: {recipe.model_name}`; `golden.json` holds an example.",
            "A teaching model: not for decisions about people.",
            "",
        ]
    )


def _generator_report(trained: Trained, task: ImageGeneration) -> Report:
    """Returns learning curves, samples of each class, and interpolations between latent vectors."""
    labels = task.labels[:SHOWN_CLASSES]
    latents = task.example_inputs(COLUMNS + len(labels) + 1)["latent"]
    steps = np.linspace(0, 1, COLUMNS)
    ends = latents[COLUMNS:]
    drawn = {
        "learning_curves": figures.adversarial_curves(trained.progress.history),
        "samples": _image_rows(trained, [latents[:COLUMNS]] * len(labels), labels, "samples"),
        "interpolation": _image_rows(
            trained,
            [slerp(one, other, steps) for one, other in itertools.pairwise(ends)],
            labels,
            "from one latent vector to the next",
        ),
    }
    return Report(figures=drawn)


def _image_rows(trained: Trained, latents: Sequence[Latents], labels: tuple[str, ...], title: str) -> Figure:
    """Shows images of the k-th class, generated from the k-th array of latents."""
    columns = len(latents[0])
    asked = np.repeat(np.arange(len(labels)), columns)
    made = pixels(trained.run({"latent": np.concatenate(latents), "class": asked}))
    return figures.image_table(made.reshape(len(labels), columns, *made.shape[1:]), title, labels)


def slerp(one: Latents, other: Latents, steps: NDArray[np.floating]) -> Latents:
    """Interpolates along the great circle from one vector [Z] to another, at `steps` from 0 to 1: [steps, Z].

    White (2016), "Sampling Generative Networks", arXiv:1609.04468: a straight line would pass nearer to the
    origin than high-dimensional normal vectors ever are.
    """
    angle = np.arccos(np.clip(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)), -1, 1))
    shares = np.sin([(1 - steps) * angle, steps * angle]) / np.sin(angle)  # [2, steps]
    way: Latents = (shares.T @ np.stack([one, other])).astype(np.float32)
    return way


def _first_weights(trained: Trained) -> Figure | None:
    """Plots the first layer's weights as images or bars; returns None for other kinds of layers."""
    task = trained.task
    layer = next(
        (m for m in trained.module.modules() if isinstance(getattr(m, "weight", None), nn.Parameter)), None
    )
    if layer is None:
        return None
    weight: Any = layer.weight
    weight = weight.detach().numpy()
    if isinstance(layer, nn.Conv2d):
        kernels = weight.transpose(0, 2, 3, 1)  # [N, C, H, W] -> [N, H, W, C]
        return figures.weight_images(kernels, "first-layer kernels")
    if isinstance(layer, nn.Linear) and isinstance(task, ImageClassification):
        channels_first = weight.reshape(-1, task.channels, task.height, task.width)
        return figures.weight_images(
            np.moveaxis(channels_first, 1, 3), "first-layer weights, one image a unit"
        )
    if weight.ndim == 1 and isinstance(task, TabularRegression | TabularClassification):
        return figures.feature_weights(weight, task.feature_names)
    return None
