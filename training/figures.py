"""Plots that a run logs. Each function takes arrays and returns a matplotlib figure; none writes files.

Shape legend: N examples, H height, W width, C channels.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from numpy.typing import NDArray

from training.loop import Points
from zoo.metrics import confusion_matrix

# Okabe & Ito's palette, which colour-blind readers can distinguish.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "axes.prop_cycle": cycler(color=COLOURS),
    "figure.dpi": 120,
    "font.size": 10,
    "axes.titlesize": 11,
    "legend.frameon": False,
}
mpl.rcParams.update(STYLE)

MAX_TICKS = 30  # maximum number of class names that fit beside a confusion matrix
Array = NDArray[Any]


def new_figure(rows: int, columns: int, width: float = 4.2, height: float = 3.4) -> tuple[Figure, Any]:
    """Returns a figure and its axes [rows, columns], each of the given size in inches."""
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def learning_curves(history: Points) -> Figure:
    """Plots training and validation loss by epoch, and each other validation metric in its own panel."""
    others = [name for name in history if name.startswith("validation_") and name != "validation_loss"]
    figure, axes = new_figure(1, 1 + len(others))
    for name in ("train_loss", "validation_loss"):
        if name in history:
            axes[0, 0].plot(*np.transpose(history[name]), label=name.removesuffix("_loss"))
    axes[0, 0].set(title="loss", xlabel="epoch")
    positive = all(value > 0 for _, value in history["train_loss"])
    if positive:
        axes[0, 0].set_yscale("log")
        axes[0, 0].yaxis.set_major_formatter(ScalarFormatter())
        axes[0, 0].yaxis.set_minor_formatter(ScalarFormatter())
    axes[0, 0].legend()
    for axis, name in zip(axes[0, 1:], others, strict=True):
        axis.plot(*np.transpose(history[name]), color=COLOURS[1])
        axis.set(title=name.replace("_", " "), xlabel="epoch")
    return figure


def confusion(target: Array, prediction: Array, labels: tuple[str, ...]) -> Figure:
    """Plots a confusion matrix: shares of each true class (row) by predicted class; counts if they fit."""
    counts = confusion_matrix(target, prediction, len(labels))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = max(3.6, 0.5 * min(len(labels), MAX_TICKS) + 1.5)
    figure, ((axis,),) = new_figure(1, 1, size + 0.8, size)
    axis.grid(False)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class")
    if len(labels) <= MAX_TICKS:
        axis.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(labels)), labels)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axis.text(column, row, count, ha="center", va="center", color=colour, fontsize=7)
    axis.set(title=f"accuracy {np.trace(counts) / counts.sum():.4f}", xlabel="predicted", ylabel="true")
    return figure


def worst_mistakes(
    images: Array, target: Array, probabilities: Array, labels: tuple[str, ...], most: int = 24
) -> Figure:
    """Shows the misclassified images of [N, H, W, C] with the highest confidence."""
    prediction = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(prediction != target)
    worst = wrong[np.argsort(-confidence[wrong])][:most]
    columns = 6
    figure, axes = new_figure(max(1, -(-len(worst) // columns)), columns, 1.5, 1.75)
    for axis in axes.flat:
        axis.axis("off")
    for axis, index in zip(axes.flat, worst, strict=False):
        show_image(axis, images[index])
        title = f"{labels[target[index]]} read as\n{labels[prediction[index]]} ({confidence[index]:.2f})"
        axis.set_title(title, fontsize=7)
    figure.suptitle(f"{len(wrong)} mistakes in {len(target):,}; the most confident ones")
    return figure


def predicted_against_actual(target: Array, value: Array, name: str, unit: str) -> Figure:
    """Plots predictions against actual values, and residuals against predictions."""
    figure, ((left, right),) = new_figure(1, 2)
    ends = [min(target.min(), value.min()), max(target.max(), value.max())]
    left.plot(ends, ends, color="black", linewidth=1)
    left.scatter(target, value, s=12, alpha=0.7)
    left.set(title=name, xlabel=f"actual ({unit})" if unit else "actual", ylabel="predicted")
    right.axhline(0, color="black", linewidth=1)
    right.scatter(value, target - value, s=12, alpha=0.7)
    right.set(title="residuals", xlabel="predicted", ylabel="actual - predicted")
    return figure


def forecasts(
    truth: Array, forecast: Array, radius: Array, names: Sequence[str], unit: str, level: float
) -> Figure:
    """Plots truth and forecast [T, V], with half the interval's width [T, V], in one panel per name."""
    figure, axes = new_figure(len(names), 1, 9.0, 2.6)
    steps = np.arange(len(truth))
    for axis, name, true, ahead, half in zip(axes[:, 0], names, truth.T, forecast.T, radius.T, strict=False):
        label = f"{level:.0%} interval"
        axis.fill_between(
            steps, ahead - half, ahead + half, color=COLOURS[0], alpha=0.2, linewidth=0, label=label
        )
        axis.plot(steps, true, color="black", linewidth=1, label="truth")
        axis.plot(steps, ahead, color=COLOURS[0], linewidth=1.2, label="forecast")
        axis.set(title=name, ylabel=unit)
        axis.margins(x=0)
    axes[0, 0].legend(ncols=3, loc="upper left")
    axes[-1, 0].set_xlabel("steps of the test split")
    return figure


def error_by_step(errors: dict[str, Array]) -> Figure:
    """Plots the root mean squared error [H] of each forecast by steps ahead, in standard deviations."""
    figure, ((axis,),) = new_figure(1, 1, 6.0, 3.6)
    for place, (name, error) in enumerate(errors.items()):
        axis.plot(np.arange(1, len(error) + 1), error, color=COLOURS[place % len(COLOURS)], label=name)
    axis.set(xlabel="steps ahead", ylabel="RMSE in standard deviations", ylim=(0, None))
    axis.legend()
    return figure


def feature_weights(weight: Array, names: tuple[str, ...], most: int = 30) -> Figure:
    """Plots the largest weights of a linear unit, in standardised units, by feature."""
    largest = np.argsort(-np.abs(weight))[:most][::-1]
    figure, ((axis,),) = new_figure(1, 1, 6, 0.8 + 0.25 * len(largest))
    colours = [COLOURS[0] if weight[i] > 0 else COLOURS[1] for i in largest]
    axis.barh([names[i] for i in largest], weight[largest], color=colours)
    axis.axvline(0, color="black", linewidth=1)
    axis.set(title="weights (standardised features)")
    return figure


def weight_images(weights: Array, title: str, most: int = 32) -> Figure:
    """Shows first-layer weights [N, H, W, C] as one image per unit, on a common scale around grey."""
    shown = weights[:most]
    columns = min(8, len(shown))
    figure, axes = new_figure(-(-len(shown) // columns), columns, 1.1, 1.1)
    scale = np.abs(shown).max()
    for axis in axes.flat:
        axis.axis("off")
    for axis, unit in zip(axes.flat, shown, strict=False):
        if unit.shape[2] == 3:
            axis.imshow(0.5 + unit / (2 * scale))
        else:
            axis.imshow(unit.mean(axis=2), cmap="RdBu_r", vmin=-scale, vmax=scale)
    figure.suptitle(title)
    return figure


def show_image(axis: Any, image: Array) -> None:
    """Draws an image, uint8 [H, W, C], grey or RGB."""
    axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
    axis.axis("off")


def image_table(images: Array, title: str, labels: Sequence[str] = ()) -> Figure:
    """Shows images [rows, columns, H, W, C] in a grid, without scaling; `labels` name the rows."""
    rows, columns, height, width, channels = images.shape
    gap = max(1, height // 14)
    framed = np.pad(images, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
    # [rows, columns, H, W, C] -> [rows · H, columns · W, C]: one image, because axes for each take seconds
    sheet = framed.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap), channels)
    figure, ((axis,),) = new_figure(1, 1, 0.8 * columns, 0.8 * rows)
    show_image(axis, sheet[:-gap, :-gap])
    for row, label in enumerate(labels):
        axis.text(-gap, row * (height + gap) + height / 2, label, ha="right", va="center")
    figure.suptitle(title.replace("_", " "))
    return figure


def adversarial_curves(history: Points) -> Figure:
    """Plots losses and mean scores of generator and discriminator by epoch, and signs that one fails."""
    panels = {
        "loss": ("train_discriminator_loss", "train_generator_loss"),
        "score": ("train_real_score", "train_fake_score", "validation_real_score"),
        "real images scored above generated ones": ("train_told_apart", "validation_told_apart"),
        "variety within a class, real images' = 1": ("train_variety", "train_least_variety"),
        "norm of the generator's gradient": ("train_generator_gradient",),
    }
    figure, axes = new_figure(1, len(panels))
    for axis, (title, names) in zip(axes[0], panels.items(), strict=True):
        for name in names:
            if name in history:
                label = name.removeprefix("train_").removesuffix("_loss").replace("_", " ")
                axis.plot(*np.transpose(history[name]), label=label)
        axis.set(title=title, xlabel="epoch")
        axis.legend()
    axes[0, -1].set_yscale("log")
    return figure


def attention(weights: Array, source: Sequence[str], target: Sequence[str]) -> Figure:
    """Plots the attention weights [T, S] of target tokens to source tokens; dark cells are large weights."""
    rows, columns = weights.shape
    figure, axes = new_figure(1, 1, 1.6 + 0.28 * columns, 1.2 + 0.24 * rows)
    axis = axes[0, 0]
    axis.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(columns), source, rotation=90)
    axis.set_yticks(range(rows), target)
    axis.grid(visible=False)
    axis.set(xlabel="read", ylabel="written")
    return figure
