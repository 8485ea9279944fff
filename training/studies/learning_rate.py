"""Learning rate: the largest stable step of gradient descent, and divergence above it.

Linear regression with two weights, fitted by batch gradient descent at four learning rates. On a quadratic
loss with largest curvature λ (the largest eigenvalue of the Hessian), descent converges if and only if the
rate is below 2 / λ: far below, it is slow; just below, it zigzags across the valley; above, every step
overshoots by more than the last.

Source: Goodfellow, Bengio & Courville (2016), "Deep Learning", section 4.3; the rate of convergence by
eigenvalue as in Goh (2017), "Why Momentum Really Works", doi:10.23915/distill.00006.
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
from training.pipeline import prepare, torch_settings
from training.recipes.linear_regression import LinearRegressionRecipe
from training.study import Findings
from zoo.errors import TrainingDiverged

EPOCHS = 60  # of one step each; with fewer, the divergence would not be visible
RATES = {"too small": 0.01, "good": 0.6, "zigzag": 0.985, "too large": 1.1}  # as shares of 2 / λ
FRAME = 8.0  # loss above the minimum at which a path leaves the plot
DRAWN = (COLOURS[5], COLOURS[2], COLOURS[4], COLOURS[1])
RECIPE = dataclasses.replace(TWO_WEIGHTS, epochs=EPOCHS)


@dataclass(frozen=True)
class Descent:
    """Result of one run at one rate."""

    rate: float
    path: NDArray[np.float64]
    """Parameters after each step [S + 1, P]."""
    excess: NDArray[np.float64]
    """Loss above the minimum after each step [S + 1]."""
    failure: str | None


def run(laboratory: Laboratory) -> Findings:
    """Descends at four rates, the last of which diverges."""
    with torch_settings(RECIPE):
        surface = surface_of(prepare(RECIPE))
    descents = {}
    for name, share in RATES.items():
        rate = share * surface.largest_rate
        recipe = dataclasses.replace(RECIPE, optimizer=Optimizer("sgd", rate))
        descents[name] = _descend(laboratory, f"{name} ({rate:.3g})", recipe, surface)
    return Findings(_figure(surface, descents), _conclusion(surface, descents), _metrics(surface, descents))


def _descend(
    laboratory: Laboratory, name: str, recipe: LinearRegressionRecipe, surface: LossSurface
) -> Descent:
    failure = None
    try:
        with laboratory.trial(name, recipe) as trial:
            path = trial.parameters_by_step()
            try:
                trial.train()
            finally:
                excess = surface.excess(np.array(path))
                trial.log.points({"excess_loss": list(enumerate(excess.tolist()))})
    except TrainingDiverged as error:
        failure = str(error)
    rate = trial.prepared.objective.optimizers[0].param_groups[0]["lr"]
    return Descent(rate, np.array(path), excess, failure)


def _metrics(surface: LossSurface, descents: dict[str, Descent]) -> dict[str, float]:
    final = {f"excess_loss_{name.replace(' ', '_')}": float(d.excess[-1]) for name, d in descents.items()}
    return {"largest_rate": surface.largest_rate, **final}


def _conclusion(surface: LossSurface, descents: dict[str, Descent]) -> str:
    lines = [
        f"The largest curvature of this loss is {2 / surface.largest_rate:.3g}, so steps must stay below a "
        f"rate of {surface.largest_rate:.3g}."
    ]
    for name, descent in descents.items():
        outcome = (
            f"diverged: {descent.failure}"
            if descent.failure
            else f"{descent.excess[-1]:.2g} above the minimum after {len(descent.excess) - 1} steps, "
            f"from {descent.excess[0]:.2g} at the start"
        )
        lines.append(f"- {name}, rate {descent.rate:.3g}: {outcome}.")
    return "\n".join(lines)


def _figure(surface: LossSurface, descents: dict[str, Descent]) -> Figure:
    """Draws paths on the loss surface, loss curves, and the final loss by rate, in theory and in the runs."""
    figure, ((valley, curves, final),) = new_figure(1, 3, 4.2, 4.2)
    surface.draw(valley, -0.7, 2.1, -1.4, 1.4)
    valley.set(title="Paths over the two weights")
    curves.set(title="Loss by step", xlabel="step", ylabel="loss above the minimum")
    curves.set(yscale="log", ylim=(1e-4, 1e3), xlim=(0, EPOCHS))
    rates = np.linspace(0.004, 1.25 * surface.largest_rate, 400)
    start = next(iter(descents.values())).path[0]
    predicted = surface.excess_after(start, rates, EPOCHS)
    final.plot(rates, predicted, color="0.6", linewidth=1.5, zorder=0)
    final.annotate("theory", (rates[90], predicted[90]), (5, 5), textcoords="offset points", color="0.4")
    final.axvline(surface.largest_rate, color="black", linestyle=":", linewidth=1.2)
    final.text(surface.largest_rate - 0.01, 1.3e-4, "2 / λ", ha="right")
    final.set(title=f"Loss after {EPOCHS} steps", xlabel="learning rate")
    final.set(yscale="log", ylim=(1e-4, 1e3), xlim=(0, rates[-1]))
    for (name, descent), colour in reversed(list(zip(descents.items(), DRAWN, strict=True))):
        label = f"{name} ({descent.rate:.3g})"
        inside = descent.path[descent.excess < FRAME, :2]  # the diverging path would cover the others
        valley.plot(*inside.T, color=colour, marker="o", markersize=3, linewidth=0.9)
        curves.plot(descent.excess, color=colour, linewidth=2, label=label)
        if descent.failure is None:
            final.plot(descent.rate, descent.excess[-1], color=colour, marker="o", markersize=9)
        else:
            final.plot(descent.rate, 400, color=colour, marker="^", markersize=10)
            final.text(rates[-1], 130, "diverges", color=colour, ha="right", va="center")
    curves.legend(loc="upper right", title="learning rate", reverse=True)
    return figure
