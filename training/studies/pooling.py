"""Pooling: the maximum or the mean of each window, and the effect on accuracy for shifted images.

LeNet-5 with ReLU, and max or average pooling. Max pooling passes on that a feature is present, anywhere in
the window; average pooling also passes on how much of the window it fills. Both make the answer less
dependent on the exact position of the strokes. The study tests this on shifted test images; the training
images are not shifted.

Source: LeCun, Bottou, Bengio & Haffner (1998), doi:10.1109/5.726791 (average); Scherer, Müller & Behnke
(2010), "Evaluation of Pooling Operations in Convolutional Architectures for Object Recognition",
doi:10.1007/978-3-642-15825-4_10.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812

from training.figures import COLOURS, new_figure, show_image
from training.laboratory import Laboratory
from training.recipes.lenet5 import RECIPES, LeNet5Recipe
from training.study import Findings
from zoo.models.lenet5 import LeNet5Config

Pooling = Literal["max", "average"]
POOLINGS: tuple[Pooling, ...] = ("max", "average")
DRAWN = dict(zip(POOLINGS, (COLOURS[0], COLOURS[1]), strict=True))
SHIFTS = (0, 1, 2, 3, 4)  # pixels to the right and down
SEEDS = 4
EPOCHS = 10
RECIPE = dataclasses.replace(RECIPES[0], epochs=EPOCHS, bar=None)  # the recipe for MNIST-5k


@dataclass(frozen=True)
class Outcome:
    """Result of one run."""

    accuracies: Sequence[float]
    """Accuracies on the test split shifted by each of SHIFTS."""


def run(laboratory: Laboratory) -> Findings:
    """Trains with both kinds of pooling and every seed."""
    outcomes = {
        pooling: [_train(laboratory, pooling, seed) for seed in range(max(2, laboratory.scaled(SEEDS)))]
        for pooling in POOLINGS
    }
    metrics = {
        f"test_accuracy_{pooling}_shift_{shift}": float(np.mean([r.accuracies[i] for r in runs]))
        for pooling, runs in outcomes.items()
        for i, shift in enumerate(SHIFTS)
    }
    return Findings(_figure(RECIPE, outcomes), _conclusion(outcomes, metrics), metrics)


def shifted(images: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """Moves images [N, H, W, C] right and down by this many pixels, and fills with black."""
    moved = np.zeros_like(images)
    end = images.shape[1] - pixels
    moved[:, pixels:, pixels:] = images[:, :end, :end]
    return moved


def _train(laboratory: Laboratory, pooling: Pooling, seed: int) -> Outcome:
    recipe = dataclasses.replace(
        RECIPE,
        epochs=laboratory.scaled(EPOCHS),
        seed=seed,
        model=LeNet5Config(activation="relu", pooling=pooling),
    )
    with laboratory.trial(f"{pooling} seed {seed}", recipe) as trial:
        trial.train()
        test = trial.prepared.data.test
        accuracies = [
            trial.measure({**test, "image": shifted(test["image"], pixels)})["accuracy"] for pixels in SHIFTS
        ]
        trial.log.points({"test_accuracy_by_shift": list(zip(SHIFTS, accuracies, strict=True))})
        return Outcome(accuracies)


def _conclusion(outcomes: dict[Pooling, list[Outcome]], metrics: dict[str, float]) -> str:
    lines = [f"Mean over {len(outcomes['max'])} seeds, by pixels of shift of the test images:"]
    for pooling in POOLINGS:
        values = ", ".join(f"{s}: {metrics[f'test_accuracy_{pooling}_shift_{s}']:.3f}" for s in SHIFTS)
        lines.append(f"- {pooling}: {values}")
    for shift in (SHIFTS[0], SHIFTS[-1]):
        difference = (
            metrics[f"test_accuracy_max_shift_{shift}"] - metrics[f"test_accuracy_average_shift_{shift}"]
        )
        spread = max(
            float(np.std([r.accuracies[SHIFTS.index(shift)] for r in outcomes[pooling]]))
            for pooling in POOLINGS
        )
        better = "max" if difference > 0 else "average"
        clear = "more" if abs(difference) > spread else "no more"
        lines.append(
            f"\nShifted by {shift}, {better} pooling is better by {abs(difference):.3f}: {clear} than the "
            f"seeds differ among themselves ({spread:.3f})."
        )
    return "\n".join(lines)


def _figure(recipe: LeNet5Recipe, outcomes: dict[Pooling, list[Outcome]]) -> Figure:
    """Draws one digit after both kinds of pooling, and accuracy by shift."""
    figure, (row,) = new_figure(1, 4, 2.9, 2.9)
    digit = recipe.load_data().test["image"][3]  # [H, W, 1]
    strokes = torch.from_numpy(digit).permute(2, 0, 1).float()  # [1, H, W]
    pooled: tuple[tuple[str, Any], ...] = (
        ("a digit", digit),
        ("max of each 4 x 4", F.max_pool2d(strokes, 4)[0].numpy()),
        ("mean of each 4 x 4", F.avg_pool2d(strokes, 4)[0].numpy()),
    )
    for axis, (title, image) in zip(row[:3], pooled, strict=True):
        show_image(axis, image)
        axis.set_title(title)
    for pooling, runs in outcomes.items():
        curves = np.array([r.accuracies for r in runs])
        row[3].plot(SHIFTS, curves.mean(axis=0), color=DRAWN[pooling], marker="o", linewidth=2, label=pooling)
        row[3].plot(SHIFTS, curves.T, color=DRAWN[pooling], linewidth=0.6, alpha=0.5)
    row[3].set(title="Test accuracy", xlabel="shift in pixels", xticks=SHIFTS)
    row[3].legend()
    return figure
