"""Augmentation: changes to the training images that help if there are few of them.

LeNet-5 on a few images of each digit, without augmentation, with each change alone, and with a combination of
changes that preserve a digit. Each change assumes something about the data, for example that a digit turned
or moved a little is the same digit. Flipping makes a wrong assumption: a mirrored 3 is not a 3.

Source: Krizhevsky, Sutskever & Hinton (2012), doi:10.1145/3065386; Zhong et al. (2017), arXiv:1708.04896;
Zhang et al. (2017), arXiv:1710.09412.
"""

import dataclasses

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from training.augment import Augmentation
from training.figures import COLOURS, show_image
from training.laboratory import Laboratory
from training.recipes.lenet5 import RECIPES
from training.study import Findings

IMAGES_PER_CLASS = 20
SEEDS = 3
EPOCHS = 60
SHOWN = 3  # images of each change
NONE, TOGETHER = "none", "together"
VARIANTS: dict[str, Augmentation] = {
    NONE: Augmentation(),
    "rotate": Augmentation(rotate=15),
    "scale": Augmentation(scale=0.2),
    "crop": Augmentation(crop=3),
    "flip": Augmentation(flip=True),
    "colour": Augmentation(colour=0.4),
    "erase": Augmentation(erase=0.5),
    "mixup": Augmentation(mixup=0.4),
    TOGETHER: Augmentation(rotate=15, scale=0.2, crop=3),
}
RECIPE = dataclasses.replace(
    RECIPES[0],
    epochs=EPOCHS,
    images_per_class=IMAGES_PER_CLASS,
    batch_size=50,
    validation_share=0.0,
    bar=None,
)


def run(laboratory: Laboratory) -> Findings:
    """Trains every variant with every seed; the seed also selects the images."""
    accuracies: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for name, augmentation in VARIANTS.items():
        for seed in range(laboratory.scaled(SEEDS)):
            recipe = dataclasses.replace(
                RECIPE, epochs=laboratory.scaled(EPOCHS), seed=seed, augmentation=augmentation
            )
            with laboratory.trial(f"{name} seed {seed}", recipe) as trial:
                trial.train()
                measured = trial.measure(trial.prepared.data.test)
                trial.log.points({f"test_{metric}": [(0, value)] for metric, value in measured.items()})
                accuracies[name].append(measured["accuracy"])
    metrics = {f"mean_test_accuracy_{name}": float(np.mean(values)) for name, values in accuracies.items()}
    return Findings(_figure(accuracies), _conclusion(accuracies), metrics)


def _conclusion(accuracies: dict[str, list[float]]) -> str:
    plain = np.array(accuracies[NONE])
    lines = [
        f"{IMAGES_PER_CLASS} images of each digit, mean over {len(plain)} seeds, on the test split:",
        f"- {NONE}: {plain.mean():.3f}",
    ]
    gains = {name: np.array(values) - plain for name, values in accuracies.items() if name != NONE}
    for name, gain in gains.items():
        # Runs with the same seed have the same images and initial weights, so the gains are paired.
        error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else float("nan")
        lines.append(f"- {name}: {plain.mean() + gain.mean():.3f}, {gain.mean():+.3f} ± {error:.3f}")
    best = max(gains, key=lambda name: gains[name].mean())
    worst = min(gains, key=lambda name: gains[name].mean())
    lines.append(f"\nMost is gained by {best}, least by {worst}.")
    return "\n".join(lines)


def _figure(accuracies: dict[str, list[float]]) -> Figure:
    """Draws one row per variant: examples of a changed digit, and the accuracies of all seeds."""
    names = list(accuracies)
    figure = Figure(figsize=(10.5, 0.72 * len(names) + 0.6), layout="constrained")
    grid = GridSpec(len(names), SHOWN + 6, figure=figure)
    data = RECIPE.load_data().train
    train = data["image"]
    digit = torch.from_numpy(train[data["target"] == 3][:1])
    torch.manual_seed(1)
    for row, name in enumerate(names):
        for column in range(SHOWN):
            axis = figure.add_subplot(grid[row, column])
            pair = torch.cat([digit, torch.from_numpy(train[-1 - column :][:1])])  # mixup needs two images
            show_image(axis, VARIANTS[name].views(pair)[0].numpy())
    axis = figure.add_subplot(grid[:, SHOWN + 1 :])
    for row, (name, values) in enumerate(accuracies.items()):
        colour = COLOURS[6] if name == NONE else COLOURS[2] if name == TOGETHER else COLOURS[0]
        axis.plot(values, np.full(len(values), row), "|", color=colour, markersize=14)
        axis.plot(np.mean(values), row, "o", color=colour, markersize=9)
    axis.axvline(float(np.mean(accuracies[NONE])), color="0.5", linewidth=1, linestyle=":")
    axis.set_yticks(range(len(names)), names)
    axis.set(ylim=(len(names) - 0.5, -0.5), xlabel="test accuracy (lines: single seeds)")
    axis.set_title(f"{IMAGES_PER_CLASS} training images of each digit")
    return figure
