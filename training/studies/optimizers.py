"""Optimisers: descent by each update rule in a narrow valley, and its cost in epochs, steps and time.

Batch gradient descent takes one exact step per epoch, stochastic gradient descent one noisy step per example;
mini-batches are in between. Momentum (Polyak 1964, doi:10.1016/0041-5553(64)90137-5) keeps its direction;
RMSProp (Tieleman & Hinton 2012) and Adam (Kingma & Ba 2014, arXiv:1412.6980) scale each weight's step by the
size of its past gradients. All start at zero on the same linear regression.

Source: Ruder (2016), "An overview of gradient descent optimization algorithms", arXiv:1609.04747.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.figures import COLOURS, new_figure
from training.laboratory import Laboratory
from training.loss_surface import TWO_WEIGHTS, LossSurface, surface_of
from training.optimizer import Optimizer
from training.recipes.linear_regression import LinearRegressionRecipe
from training.study import Findings

# Batch size (0 is all examples) and rule. Each rate is, within a factor of two, the one of 1, 2, 3, 5 x 10^k
# with the lowest mean loss over epochs 56 to 60.
RULES = {
    "batch": (0, Optimizer("sgd", 0.3)),
    "SGD, 1 example": (1, Optimizer("sgd", 0.005)),
    "mini-batch, 16": (16, Optimizer("sgd", 0.05)),
    "momentum, batch": (0, Optimizer("sgd", 0.2, momentum=0.8)),
    "RMSProp, batch": (0, Optimizer("rmsprop", 0.05)),
    "Adam, batch": (0, Optimizer("adam", 0.3)),
}
DRAWN = dict(
    zip(RULES, (COLOURS[6], COLOURS[5], COLOURS[0], COLOURS[1], COLOURS[4], COLOURS[2]), strict=True)
)
NEAR = 0.01  # a run has arrived if its loss is less than this above the minimum
RECIPE = dataclasses.replace(TWO_WEIGHTS, log_steps=20)


@dataclass(frozen=True)
class Descent:
    """Result of one run of one rule; E epochs, S steps."""

    path: NDArray[np.float64]
    """Parameters after each step [S + 1, P]."""
    excess: NDArray[np.float64]
    """Loss above the minimum after each step [S + 1]."""
    epochs: NDArray[np.float64]
    """Epochs passed at each step [S + 1]."""
    milliseconds: NDArray[np.float64]
    """Training time at the end of each epoch [E + 1], from 0."""

    @property
    def excess_by_epoch(self) -> NDArray[np.float64]:
        """Loss above the minimum at the start and at the end of each epoch [E + 1]."""
        return self.excess[:: (len(self.excess) - 1) // (len(self.milliseconds) - 1)]

    @property
    def arrival(self) -> int | None:
        """First step with a loss near the minimum; None if there is none."""
        near = np.flatnonzero(self.excess < NEAR)
        return int(near[0]) if len(near) else None


def run(laboratory: Laboratory) -> Findings:
    """Fits the same regression by every rule."""
    recipe = dataclasses.replace(RECIPE, epochs=laboratory.scaled(60))
    descents = {}
    for name, (batch_size, rule) in RULES.items():
        variant = dataclasses.replace(recipe, batch_size=batch_size, optimizer=rule)
        surface, descents[name] = _descend(laboratory, name, variant)
    return Findings(_figure(surface, descents), _conclusion(descents), _metrics(descents))


def _descend(
    laboratory: Laboratory, name: str, recipe: LinearRegressionRecipe
) -> tuple[LossSurface, Descent]:
    with laboratory.trial(name, recipe) as trial:
        surface, path = surface_of(trial.prepared), trial.parameters_by_step()
        seconds = [0.0]
        progress = trial.train(lambda progress, _: seconds.append(progress.seconds))
        parameters = np.array(path)
        excess = surface.excess(parameters)
        epochs = np.linspace(0, progress.epoch, len(path))
        descent = Descent(parameters, excess, epochs, 1000 * np.array(seconds))
        by_epoch = descent.excess_by_epoch.tolist()
        trial.log.points({"excess_loss": list(enumerate(by_epoch))})
        trial.log.points({"steps": [(0, float(progress.step))], "train_seconds": [(0, progress.seconds)]})
        if descent.arrival is not None:
            trial.log.points({"steps_to_near": [(0, float(descent.arrival))]})
    return surface, descent


def _metrics(descents: dict[str, Descent]) -> dict[str, float]:
    return {f"excess_loss_{_key(name)}": float(d.excess[-1]) for name, d in descents.items()}


def _key(name: str) -> str:
    return name.partition(",")[0].lower().replace("-", "_")


def _conclusion(descents: dict[str, Descent]) -> str:
    lines = [f"Steps, epochs and milliseconds until the loss is within {NEAR} of its minimum:"]
    for name, descent in descents.items():
        step = descent.arrival
        if step is None:
            lines.append(
                f"- {name}: not in {descent.epochs[-1]:g} epochs ({descent.excess[-1]:.2g} above it)"
            )
            continue
        epoch = descent.epochs[step]
        time = np.interp(epoch, np.arange(len(descent.milliseconds)), descent.milliseconds)
        lines.append(f"- {name}: {step} steps, {epoch:.1f} epochs, {time:.0f} ms")
    arrived = {name: d for name, d in descents.items() if d.arrival is not None}
    if arrived:
        by_step = min(arrived, key=lambda name: arrived[name].arrival or 0)
        by_epoch = min(arrived, key=lambda name: arrived[name].epochs[arrived[name].arrival or 0])
        lines.append(f"\nFewest steps: {by_step}. Fewest epochs: {by_epoch}.")
    return "\n".join(lines)


def _figure(surface: LossSurface, descents: dict[str, Descent]) -> Figure:
    """Draws one path per rule, and the loss by epochs, steps and time."""
    figure, axes = new_figure(3, 3, 4.2, 2.5)
    for axis, (name, descent) in zip(axes[:2].flat, descents.items(), strict=True):
        surface.draw(axis, -0.6, 2.3, -0.85, 0.75)
        axis.plot(*descent.path[:, :2].T, color=DRAWN[name], marker=".", markersize=4, linewidth=0.8)
        rate = RULES[name][1].learning_rate
        axis.set_title(f"{name}, rate {rate:g}", color=DRAWN[name], fontweight="bold")
    for axis in axes[0]:
        axis.set_xlabel("")
    for axis in axes[:2, 1:].flat:
        axis.set_ylabel("")
    for name, descent in descents.items():
        style = {"color": DRAWN[name], "linewidth": 1.5}
        axes[2, 0].plot(descent.excess_by_epoch, **style)
        axes[2, 1].plot(np.arange(1, len(descent.excess)), descent.excess[1:], **style)
        axes[2, 2].plot(descent.milliseconds[1:], descent.excess_by_epoch[1:], **style)
    for axis, label in zip(axes[2], ("epochs", "steps", "training time in milliseconds"), strict=True):
        axis.set(xlabel=label, yscale="log", ylim=(1e-5, 2), xscale="linear" if label == "epochs" else "log")
    axes[2, 0].set_ylabel("loss above minimum")
    return figure
