"""Overfitting, and the effect of L2, dropout and early stopping on it.

A multilayer perceptron with 50,000 weights memorises 200 images of digits. L2 keeps the weights small,
dropout (Srivastava et al. 2014) drops half of the hidden units in each step, early stopping (Prechelt 1998,
doi:10.1007/3-540-49430-8_3) restores the weights with the lowest validation loss. All other images of the
training split are for validation: a large split, so that its curves are smooth.

Source: Goodfellow, Bengio & Courville (2016), "Deep Learning", chapter 7.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from training.figures import COLOURS, new_figure
from training.laboratory import Laboratory
from training.loop import Points, Progress
from training.optimizer import Optimizer
from training.recipes.mlp import MLPRecipe
from training.study import Findings
from zoo.models.mlp import MLPConfig

IMAGES = 200
TRAINING_SPLIT = 1437  # images of the digits' training split
SEEDS = 3
EPOCHS = 150
PATIENCE = 20  # epochs; with so few training images the validation loss is noisy
PLAIN_MODEL = MLPConfig(hidden=(256, 128))
DROPOUT_MODEL = dataclasses.replace(PLAIN_MODEL, dropout=0.5)
PLAIN = Optimizer("sgd", 0.02, momentum=0.9)
L2 = dataclasses.replace(PLAIN, weight_decay=1e-3)

NONE = MLPRecipe(
    dataset="digits",
    epochs=EPOCHS,
    batch_size=32,
    validation_share=1 - IMAGES / TRAINING_SPLIT,
    model=PLAIN_MODEL,
    optimizer=PLAIN,
)
VARIANTS: dict[str, MLPRecipe] = {
    "none": NONE,
    "L2": dataclasses.replace(NONE, optimizer=L2),
    "dropout": dataclasses.replace(NONE, model=DROPOUT_MODEL),
    "early stopping": dataclasses.replace(NONE, patience=PATIENCE),
    "all three": dataclasses.replace(NONE, optimizer=L2, model=DROPOUT_MODEL, patience=PATIENCE),
}
DRAWN = dict(zip(VARIANTS, (COLOURS[6], COLOURS[0], COLOURS[4], COLOURS[3], COLOURS[2]), strict=True))


@dataclass(frozen=True)
class Outcome:
    """Result of one run; losses by epoch."""

    train_loss: Sequence[float]
    """Loss on the training images without dropout."""
    validation_loss: Sequence[float]
    kept: int
    """Epoch whose weights were kept."""
    test_loss: float
    test_accuracy: float


def run(laboratory: Laboratory) -> Findings:
    """Trains every variant with every seed."""
    outcomes = {
        name: [
            _train(laboratory, f"{name} seed {seed}", dataclasses.replace(recipe, seed=seed))
            for seed in range(laboratory.scaled(SEEDS))
        ]
        for name, recipe in VARIANTS.items()
    }
    metrics = {
        f"mean_{measure}_{name.replace(' ', '_')}": _mean(runs, measure)
        for name, runs in outcomes.items()
        for measure in ("test_accuracy", "test_loss")
    }
    return Findings(_figure(outcomes), _conclusion(outcomes), metrics)


def _train(laboratory: Laboratory, name: str, recipe: MLPRecipe) -> Outcome:
    recipe = dataclasses.replace(recipe, epochs=laboratory.scaled(EPOCHS))
    with laboratory.trial(name, recipe) as trial:
        losses: list[float] = []

        def watch(progress: Progress, _: Points) -> None:
            # The loop's own training loss includes dropout, and would be above the validation loss.
            losses.append(trial.measure(trial.prepared.data.train)["loss"])
            trial.log.points({"train_loss_dropout_off": [(progress.epoch, losses[-1])]})

        progress = trial.train(watch)
        test = trial.measure(trial.prepared.data.test)
        kept = progress.epoch if recipe.patience is None else progress.best_epoch
        final = {f"test_{measure}": value for measure, value in test.items()} | {"kept_epoch": float(kept)}
        trial.log.points({measure: [(0, value)] for measure, value in final.items()})
        validation = [value for _, value in progress.history["validation_loss"]]
        return Outcome(losses, validation, kept, test["loss"], test["accuracy"])


def _mean(runs: list[Outcome], measure: str) -> float:
    return float(np.mean([getattr(outcome, measure) for outcome in runs]))


def _conclusion(outcomes: dict[str, list[Outcome]]) -> str:
    seeds = len(next(iter(outcomes.values())))
    lines = [f"{IMAGES} training images, mean over {seeds} seeds, on the test split:"]
    lines += [
        f"- {name}: accuracy {_mean(runs, 'test_accuracy'):.3f}, loss {_mean(runs, 'test_loss'):.3f}"
        for name, runs in outcomes.items()
    ]
    best, lowest = (
        pick(outcomes, key=lambda name: _mean(outcomes[name], measure))
        for pick, measure in ((max, "test_accuracy"), (min, "test_loss"))
    )
    lines.append(f"\nHighest accuracy: {best}. Lowest loss: {lowest}.")
    return "\n".join(lines)


def _figure(outcomes: dict[str, list[Outcome]]) -> Figure:
    """Draws training and validation loss of each variant, and the test accuracies."""
    figure, axes = new_figure(2, 3, 4.2, 2.9)
    unhelped = _common_mean([outcome.validation_loss for outcome in outcomes["none"]])
    for axis, (name, runs) in zip(axes.flat, outcomes.items(), strict=False):
        if name != "none":
            axis.plot(*unhelped, color="0.55", linewidth=1.2, linestyle=":", label="validation, none")
        _draw(axis, name, runs)
    for axis in axes[:, 0]:
        axis.set_ylabel("loss")
    _bars(axes[1, 2], outcomes)
    return figure


def _draw(axis: Any, name: str, runs: list[Outcome]) -> None:
    colour = DRAWN[name]
    for measure, label, style in (("validation_loss", "validation", "-"), ("train_loss", "training", "--")):
        curves = [getattr(outcome, measure) for outcome in runs]
        axis.plot(*_common_mean(curves), color=colour, linewidth=2, linestyle=style, label=label)
        for curve in curves:
            axis.plot(
                range(1, len(curve) + 1), curve, color=colour, linewidth=0.6, alpha=0.5, linestyle=style
            )
    if VARIANTS[name].patience is not None:
        kept = [outcome.kept for outcome in runs]
        losses = [outcome.validation_loss[outcome.kept - 1] for outcome in runs]
        axis.plot(kept, losses, "o", color=colour, markersize=6, label="weights kept")
    axis.set_title(name, color=colour, fontweight="bold")
    axis.set(xlabel="epoch", ylim=(0, 0.6), xlim=(0, EPOCHS))
    axis.legend(loc="upper right", fontsize=9)


def _common_mean(curves: list[Sequence[float]]) -> tuple[range, Any]:
    """Returns the epochs that all seeds have run, and the mean over the seeds in each."""
    shortest = min(len(curve) for curve in curves)
    return range(1, shortest + 1), np.mean([curve[:shortest] for curve in curves], axis=0)


def _bars(axis: Any, outcomes: dict[str, list[Outcome]]) -> None:
    for at, (name, runs) in enumerate(outcomes.items()):
        mean = _mean(runs, "test_accuracy")
        axis.plot(at, mean, "o", color=DRAWN[name], markersize=10)
        seeds = [outcome.test_accuracy for outcome in runs]
        axis.plot(np.full(len(seeds), at), seeds, "_", color=DRAWN[name], markersize=14)
        axis.annotate(f"{mean:.3f}", (at, mean), (9, 0), textcoords="offset points", va="center")
    axis.set_xticks(range(len(outcomes)), [name.replace(" ", "\n") for name in outcomes])
    axis.set(title="Test accuracy (lines: single seeds)", xlim=(-0.5, len(outcomes)))
    axis.grid(visible=False, axis="x")
