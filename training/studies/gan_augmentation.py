"""Generated images: does a classifier learn more where a generator adds to a few real images.

A GAN is trained on a few images of each digit, and LeNet-5 on the same images, alone and together with
images that this GAN has made of each digit; both for the same number of steps. The generator has seen
nothing but those images, so whatever it adds must come from them: it may fill the space between them, and
it may as well repeat them or blur what tells the digits apart.

Source: Antoniou, Storkey & Edwards (2017), "Data Augmentation Generative Adversarial Networks",
arXiv:1711.04340; Ravuri & Vinyals (2019), "Classification Accuracy Score for Conditional Generative
Models", arXiv:1905.10887, in which generated images do not replace real ones.

Shape legend: N images of each class, H height, W width, C channels, K classes.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from numpy.typing import NDArray

from training.export import as_run
from training.figures import COLOURS, show_image
from training.laboratory import Laboratory, Trial
from training.recipes import gan, lenet5
from training.study import Findings
from zoo.tasks import Arrays
from zoo.tasks.image_generation import pixels

IMAGES_PER_CLASS = (10, 40, 160)
SEEDS = 3
GENERATED = 3  # images for each real one
CLASSES = 10
CLASSIFIER_BATCH = 50
CLASSIFIER_STEPS = 512
GAN_STEPS = 1000
POINTS = 10  # logged epochs of a GAN

CLASSIFIER = dataclasses.replace(
    lenet5.RECIPES[0], batch_size=CLASSIFIER_BATCH, log_steps=10, validation_share=0.0, bar=None
)
GENERATOR = dataclasses.replace(gan.RECIPES[0], log_steps=10, validation_share=0.0, bar=None)


@dataclass(frozen=True)
class Outcome:
    """One seed."""

    samples: NDArray[np.uint8]
    """A generated image of each class, [K, H, W, C]."""
    real: float
    """Test accuracy with real images alone."""
    both: float
    """Test accuracy with the generated ones added."""


def run(laboratory: Laboratory) -> Findings:
    """For each number of real images and each seed a generator and two classifiers."""
    outcomes = {
        count: [_compare(laboratory, count, seed) for seed in range(laboratory.scaled(SEEDS))]
        for count in IMAGES_PER_CLASS
    }
    metrics = {
        f"mean_test_accuracy_{arm}_{count}": float(np.mean([getattr(outcome, arm) for outcome in of]))
        for count, of in outcomes.items()
        for arm in ("real", "both")
    }
    return Findings(_figure(outcomes), _conclusion(outcomes), metrics)


def _compare(laboratory: Laboratory, count: int, seed: int) -> Outcome:
    generated = _generate(laboratory, count, seed)
    # With generated images a pass is longer, so there are fewer of them.
    few = laboratory.scaled(CLASSIFIER_STEPS * CLASSIFIER_BATCH // (CLASSES * count * (1 + GENERATED)))
    many = few * (1 + GENERATED)
    recipe = dataclasses.replace(CLASSIFIER, images_per_class=count, seed=seed, epochs=many)
    with laboratory.trial(f"{count} real, seed {seed}", recipe) as trial:
        real = _accuracy(trial)
    with laboratory.trial(f"{count} real and {GENERATED * count} generated, seed {seed}", recipe) as trial:
        both = _accuracy(_with(trial, generated, few))
    return Outcome(generated["image"][:CLASSES], real, both)


def _generate(laboratory: Laboratory, count: int, seed: int) -> Arrays:
    """Images of each class in turn, by a GAN that has seen `count` of each; `image` and `target`."""
    steps = -(-CLASSES * count // GENERATOR.batch_size)  # in a pass
    epochs = laboratory.scaled(GAN_STEPS // steps)
    recipe = dataclasses.replace(
        GENERATOR, images_per_class=count, seed=seed, epochs=epochs, log_every=max(1, epochs // POINTS)
    )
    with laboratory.trial(f"GAN on {count}, seed {seed}", recipe) as trial:
        trial.train()
        task = trial.prepared.task
        inputs = task.example_inputs(CLASSES * count * GENERATED)
        made = as_run(trial.prepared.objective.export_module(), task)(inputs)
        return {"image": pixels(made), "target": inputs["class"]}


def _with(trial: Trial, generated: Arrays, epochs: int) -> Trial:
    """The trial with more images, and so many passes over all of them."""
    prepared = trial.prepared
    train = {name: np.concatenate([array, generated[name]]) for name, array in prepared.data.train.items()}
    more = dataclasses.replace(
        prepared,
        data=dataclasses.replace(prepared.data, train=train),
        plan=dataclasses.replace(prepared.plan, epochs=epochs),
    )
    return dataclasses.replace(trial, prepared=more)


def _accuracy(trial: Trial) -> float:
    """Trains; accuracy on the test split."""
    trial.train()
    measured = trial.measure(trial.prepared.data.test)
    trial.log.points({f"test_{metric}": [(0, value)] for metric, value in measured.items()})
    return measured["accuracy"]


def _conclusion(outcomes: dict[int, list[Outcome]]) -> str:
    seeds = len(next(iter(outcomes.values())))
    lines = [
        f"LeNet-5 on real digits, and with {GENERATED} generated ones added for each of them, on the test "
        f"split; mean over {seeds} seeds, with the standard error of the difference:"
    ]
    verdicts: dict[str, list[str]] = {"helped": [], "hurt": [], "made no difference beyond chance": []}
    for count, of in outcomes.items():
        real, both = (np.array([getattr(outcome, arm) for outcome in of]) for arm in ("real", "both"))
        # The same seed has the same images and the same first weights: compared in pairs.
        difference = both - real
        mean = difference.mean()
        error = difference.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else float("inf")
        lines.append(f"- {count} of each: {real.mean():.3f} and {both.mean():.3f}, {mean:+.3f} ± {error:.3f}")
        clear = abs(mean) > 2 * error
        verdict = list(verdicts)[2 if not clear else 0 if mean > 0 else 1]
        verdicts[verdict].append(str(count))
    said = [f"they {verdict} at {', '.join(counts)}" for verdict, counts in verdicts.items() if counts]
    lines.append(f"\nGenerated images: {'; '.join(said)} real images of each digit.")
    return "\n".join(lines)


def _figure(outcomes: dict[int, list[Outcome]]) -> Figure:
    """What was generated from how many images, and the accuracies with and without."""
    figure = Figure(figsize=(12.5, 4.2), layout="constrained")
    grid = GridSpec(len(outcomes), 2 * CLASSES, figure=figure)
    for row, (count, of) in enumerate(outcomes.items()):
        for column, image in enumerate(of[0].samples):
            axis = figure.add_subplot(grid[row, column])
            show_image(axis, image)
            if column == 0:
                label = f"{count} of each"
                axis.text(-0.2, 0.5, label, transform=axis.transAxes, ha="right", va="center")
    axis = figure.add_subplot(grid[:, CLASSES + 1 :])
    counts = list(outcomes)
    for arm, label, colour in (
        ("real", "real images", COLOURS[0]),
        ("both", "and generated ones", COLOURS[1]),
    ):
        values = np.array([[getattr(outcome, arm) for outcome in of] for of in outcomes.values()])
        axis.plot(counts, values.mean(axis=1), color=colour, marker="o", linewidth=2, label=label)
        axis.plot(counts, values, "_", color=colour, markersize=12)
    axis.set(xscale="log", xlabel="real images of each digit", ylabel="test accuracy (lines: single seeds)")
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
    axis.legend(loc="lower right")
    return figure
