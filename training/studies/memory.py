"""Memory: the time span that recurrent networks remember, and the size of the gradient through time.

Each value of a series depends on the value `lag` steps before and on no value in between, so that a good
forecast needs to remember the oldest value of the window. Each step back in time multiplies the gradient by
the same matrix and a slope: in the simple network it vanishes with distance; the gates of LSTM and GRU can
keep it. If it grows instead, clipping its norm prevents steps that destroy what was learned.

Source: Bengio, Simard & Frasconi (1994), "Learning Long-Term Dependencies with Gradient Descent is
Difficult", doi:10.1109/72.279181; Hochreiter & Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735; Pascanu,
Mikolov & Bengio (2013), "On the Difficulty of Training Recurrent Neural Networks", arXiv:1211.5063.

Shape legend: T time, N windows, W window.
"""

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.figures import COLOURS, new_figure
from training.laboratory import Laboratory, Trial
from training.optimizer import Optimizer
from training.recipes.gru import GRURecipe
from training.recipes.lstm import LSTMRecipe
from training.recipes.rnn import RNNRecipe
from training.recurrent_recipe import RecurrentRecipe
from training.study import Findings
from zoo.models.gru import GRUConfig
from zoo.models.lstm import LSTMConfig
from zoo.models.rnn import RNNConfig

LAGS = (5, 10, 20, 40)
KEPT = 0.95  # factor of the value `lag` steps before; the rest is noise
UNKNOWN = 1 - KEPT**2  # squared error with a perfect memory; without memory it is 1
STEPS, WIDTH, EPOCHS, WINDOWS = 3000, 32, 30, 200
UNCLIPPED = 1e9
FREE = "RNN, not clipped"
SETTINGS: dict[str, Any] = {
    "dataset": "csv:PATH",
    "time": "hour",
    "value": "value",
    "epochs": EPOCHS,
    "batch_size": 64,
    "relative": False,
    "optimizer": Optimizer("adam", 5e-3),
}
RECIPES: dict[str, RecurrentRecipe] = {
    "RNN": RNNRecipe(model=RNNConfig(WIDTH), **SETTINGS),
    "LSTM": LSTMRecipe(model=LSTMConfig(WIDTH), **SETTINGS),
    "GRU": GRURecipe(model=GRUConfig(WIDTH), **SETTINGS),
}
DRAWN = dict(zip(RECIPES, COLOURS, strict=False))


@dataclass(frozen=True)
class Outcome:
    """Result of one run."""

    error: float
    """Test error: 1 without memory, UNKNOWN with a perfect memory."""
    before: NDArray[np.float64]
    """Norm of the forecast's gradient by the value 1 to W steps back, before training."""
    after: NDArray[np.float64]
    """Same norm after training."""
    norms: list[float]
    """Mean norm of the weights' gradient in each epoch, before clipping."""


def series(lag: int, steps: int) -> NDArray[np.float64]:
    """Returns a series [T] of variance 1: each value is KEPT times the one `lag` steps before, plus noise."""
    random = np.random.default_rng(lag)
    values = random.standard_normal(steps)
    for t in range(lag, steps):
        values[t] = KEPT * values[t - lag] + np.sqrt(UNKNOWN) * values[t]
    return values


def gradient_by_distance(trial: Trial) -> NDArray[np.float64]:
    """Returns the mean over test windows of |∂ forecast / ∂ value| [W], for the last value first."""
    network = trial.prepared.objective.network
    history = torch.from_numpy(trial.prepared.data.test["history"][:WINDOWS].copy()).requires_grad_()
    (gradient,) = torch.autograd.grad(network(history).sum(), history)
    return gradient[:, :, 0].abs().mean(dim=0).flip(0).double().numpy()


def run(laboratory: Laboratory) -> Findings:
    """Trains every network at every lag, and the simple one once more without clipping."""
    outcomes: dict[tuple[str, int], Outcome] = {}
    with tempfile.TemporaryDirectory() as folder:
        for lag in LAGS:
            path = Path(folder) / f"lag-{lag}.csv"
            hours = np.datetime64("2000-01-01T00") + np.arange(STEPS)
            rows = zip(hours, series(lag, STEPS), strict=True)
            lines = "\n".join(f"{hour},{value}" for hour, value in rows)
            path.write_text(f"hour,value\n{lines}\n", encoding="utf-8")
            for name, recipe in RECIPES.items():
                outcomes[name, lag] = _remember(laboratory, f"{name}, lag {lag}", recipe, lag, path)
            if lag == max(LAGS):
                free = dataclasses.replace(RECIPES["RNN"], clip=UNCLIPPED)
                outcomes[FREE, lag] = _remember(laboratory, f"{FREE}, lag {lag}", free, lag, path)
    metrics = {f"error_{name.lower()}_{lag}": outcomes[name, lag].error for name in RECIPES for lag in LAGS}
    return Findings(_figure(outcomes), _conclusion(outcomes), metrics)


def _remember(laboratory: Laboratory, name: str, recipe: RecurrentRecipe, lag: int, path: Path) -> Outcome:
    epochs = laboratory.scaled(EPOCHS)
    recipe = dataclasses.replace(recipe, dataset=f"csv:{path}", window=lag, epochs=epochs)
    with laboratory.trial(name, recipe) as trial:
        before = gradient_by_distance(trial)
        progress = trial.train()
        after = gradient_by_distance(trial)
        error = trial.measure(trial.prepared.data.test)["loss"]
        # The step of this metric is the distance, so that MLflow plots the gradient over it.
        trial.log.points({"gradient_by_distance": list(enumerate(after.tolist(), start=1))})
        trial.log.points({"test_error": [(0, error)]})
        return Outcome(error, before, after, [norm for _, norm in progress.history["train_gradient_norm"]])


def _conclusion(outcomes: dict[tuple[str, int], Outcome]) -> str:
    far = max(LAGS)
    lines = [f"Test error by lag (1: nothing is remembered, {UNKNOWN:.2f}: all that can be):"]
    for name in RECIPES:
        errors = ", ".join(f"{lag} steps {outcomes[name, lag].error:.2f}" for lag in LAGS)
        lines.append(f"- {name}: {errors}")
    lines.append(f"\nGradient from {far} steps back over that from the step before, at lag {far}:")
    for name in RECIPES:
        outcome = outcomes[name, far]
        start, end = (norms[-1] / norms[0] for norms in (outcome.before, outcome.after))
        lines.append(f"- {name}: {start:.1e} at the start, {end:.1e} trained")
    lines.append(f"\nWithout clipping, RNN's test error at lag {far} is {outcomes[FREE, far].error:.2f}.")
    return "\n".join(lines)


def _figure(outcomes: dict[tuple[str, int], Outcome]) -> Figure:
    """Draws errors by lag, gradients by distance, and the weights' gradients by epoch."""
    far = max(LAGS)
    figure, ((errors, gradients, clipping),) = new_figure(1, 3)
    for name, colour in DRAWN.items():
        errors.plot(LAGS, [outcomes[name, lag].error for lag in LAGS], color=colour, marker="o", label=name)
        distance = np.arange(1, far + 1)
        gradients.plot(distance, outcomes[name, far].before, color=colour, linestyle=":")
        gradients.plot(distance, outcomes[name, far].after, color=colour, label=name)
    errors.axhline(UNKNOWN, color="black", linewidth=1, linestyle=":")
    errors.set(
        title="what is forgotten", xlabel="lag in steps", ylabel="test error", xticks=LAGS, ylim=(0, 1.2)
    )
    errors.legend()
    gradients.set(
        title=f"gradient through time, lag {far}",
        xlabel="steps back (dotted: at the start)",
        ylabel="|∂ forecast / ∂ value|",
        yscale="log",
    )
    for name, colour in {**DRAWN, FREE: COLOURS[3]}.items():
        norms = outcomes[name, far].norms
        clipping.plot(np.arange(1, len(norms) + 1), norms, color=colour, label=name)
    clipping.set(
        title=f"the weights' gradient, lag {far}",
        xlabel="epoch",
        ylabel="mean norm, before clipping",
        yscale="log",
    )
    clipping.legend()
    return figure
