"""Transfer learning: the gain from pretrained weights, frozen or fine-tuned, over training from scratch.

A LeNet-5 learns 26 printed letters, which are generated. Its weights, except for the last layer's, initialise
networks that learn ten handwritten digits from 10, 50 and 250 images of each: with frozen convolutions or
with all weights trained (fine-tuned). They are compared with networks that start from scratch. All take about
the same number of steps. Letters and digits share no class, only strokes, corners and loops, so only the
features can transfer. A network this small learns in seconds, so that every point has several seeds and the
network from scratch converges; a large one would lose because of its training budget, not because of its
data.

Source: Yosinski, Clune, Bengio & Lipson (2014), "How transferable are features in deep neural networks?",
arXiv:1411.1792.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training import datasets
from training.figures import COLOURS, new_figure
from training.laboratory import Laboratory
from training.optimizer import Optimizer
from training.recipes.lenet5 import LeNet5Recipe
from training.study import Findings
from training.transfer import Transfer, Weights, load
from zoo.models.lenet5 import LeNet5Config

IMAGES = (10, 50, 250)  # of each class
WAYS = ("from scratch", "frozen", "fine-tuned")
SEEDS = 5  # each with its own digits, the same for all three ways
LETTER_EPOCHS = 12
STEPS = 500
BATCH = 25
CLASSES = 10
LETTERS = LeNet5Recipe(
    dataset="printed-letters",
    epochs=LETTER_EPOCHS,
    batch_size=64,
    log_steps=10,
    validation_share=0.0,
    model=LeNet5Config("relu", "max"),
    optimizer=Optimizer("adamw", 2e-3, weight_decay=1e-2, schedule="cosine"),
)
DIGITS = replace(LETTERS, dataset="mnist-5k", batch_size=BATCH)
DRAWN = dict(zip(WAYS, (COLOURS[6], COLOURS[0], COLOURS[1]), strict=True))

Accuracies = dict[str, NDArray[np.float64]]
"""Test accuracies [images per class, seed], by way of training."""


def run(laboratory: Laboratory) -> Findings:
    """Trains on letters once, then on digits in every way, with every number of images and every seed."""
    weights, letters = _learn_letters(laboratory)
    seeds = range(laboratory.scaled(SEEDS))
    accuracies: Accuracies = {
        way: np.array([[_learn_digits(laboratory, weights, way, n, seed) for seed in seeds] for n in IMAGES])
        for way in WAYS
    }
    metrics = {
        f"mean_accuracy_{way.replace(' ', '_').replace('-', '_')}_{n}": float(values.mean())
        for way, rows in accuracies.items()
        for n, values in zip(IMAGES, rows, strict=True)
    }
    conclusion = _conclusion(accuracies, letters)
    return Findings(_figure(accuracies), conclusion, {"accuracy_letters": letters, **metrics})


def _learn_letters(laboratory: Laboratory) -> tuple[Weights, float]:
    """Trains on letters; returns the weights and their test accuracy."""
    recipe = replace(LETTERS, epochs=laboratory.scaled(LETTER_EPOCHS))
    with laboratory.trial("letters", recipe) as trial:
        trial.train()
        accuracy = trial.measure(trial.prepared.data.test)["accuracy"]
        trial.log.points({"test_accuracy": [(0, accuracy)]})
        return trial.prepared.model.state_dict(), accuracy


def _learn_digits(laboratory: Laboratory, weights: Weights, way: str, images: int, seed: int) -> float:
    """Trains one network on digits; returns its test accuracy."""
    recipe = replace(
        DIGITS,
        images_per_class=images,
        seed=seed,
        epochs=max(1, laboratory.scaled(STEPS) * BATCH // (CLASSES * images)),
        transfer=Transfer(freeze="features") if way == "frozen" else Transfer(),
    )
    with laboratory.trial(f"{way}, {images} images a class, seed {seed}", recipe) as trial:
        if way != "from scratch":
            load(trial.prepared.model, weights)
        trial.train()
        accuracy = trial.measure(trial.prepared.data.test)["accuracy"]
        trial.log.points({"test_accuracy": [(0, accuracy)]})
        return accuracy


def _conclusion(accuracies: Accuracies, letters: float) -> str:
    scratch = accuracies["from scratch"]
    lines = [
        f"The letters' network reads {letters:.3f} of unseen letters. Digits of the test split read right, "
        f"means over {scratch.shape[1]} seeds, and what is gained over starting from scratch:"
    ]
    for row, images in enumerate(IMAGES):
        gained = (
            f"{way} {accuracies[way][row].mean():.3f} ({_gain(accuracies[way][row] - scratch[row])})"
            for way in WAYS[1:]
        )
        lines.append(
            f"- {images} images a class: from scratch {scratch[row].mean():.3f}, {', '.join(gained)}"
        )
    return "\n".join(lines)


def _gain(differences: NDArray[np.float64]) -> str:
    """Formats the mean of differences [seed], with its standard error if there are several."""
    if len(differences) == 1:
        return f"{differences[0]:+.3f}"
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    verdict = "" if abs(differences.mean()) > 2 * error else ", within chance"
    return f"{differences.mean():+.3f} ± {error:.3f}{verdict}"


def _figure(accuracies: Accuracies) -> Figure:
    """Draws images of both data sets, the accuracies, and the gain from transfer with the same digits."""
    figure, ((seen, accuracy, gain),) = new_figure(1, 3, 4.2, 4.2)
    _samples(seen)
    places = np.arange(len(IMAGES))
    for offset, (way, values) in zip((-0.06, 0, 0.06), accuracies.items(), strict=True):
        _draw(accuracy, places + offset, values, way)
        if way != "from scratch":
            _draw(gain, places + offset, values - accuracies["from scratch"], way)
    accuracy.set(title="Test accuracy (dots: single seeds)")
    accuracy.legend(loc="lower right")
    gain.set(title="Gain over from scratch, same digits")
    gain.axhline(0, color=DRAWN["from scratch"], linewidth=1.2, linestyle=":")
    for axis in (accuracy, gain):
        axis.set_xticks(places, [str(images) for images in IMAGES])
        axis.set(xlabel="images of each digit to learn from")
    return figure


def _draw(axis: Any, places: NDArray[Any], values: NDArray[Any], way: str) -> None:
    """Draws values [images per class, seed]: means over the seeds as a line, and single seeds as dots."""
    axis.plot(places, values.mean(axis=1), color=DRAWN[way], linewidth=2, marker="o", label=way)
    for place, seeds in zip(places, values, strict=True):
        axis.plot(np.full(len(seeds), place), seeds, ".", color=DRAWN[way], markersize=5, alpha=0.5)


def _samples(axis: Any) -> None:
    """Draws a few images of both data sets."""
    rows = [datasets.find(recipe.dataset).load().train["image"][:24, ..., 0] for recipe in (LETTERS, DIGITS)]
    tables = [np.block([list(images[start : start + 6]) for start in range(0, 24, 6)]) for images in rows]
    gap = np.full((4, tables[0].shape[1]), 255)  # white
    axis.imshow(np.vstack([tables[0], gap, tables[1]]), cmap="gray")
    axis.set(title="Learned first: letters; then: digits")
    axis.axis("off")
