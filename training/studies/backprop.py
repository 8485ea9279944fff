"""Back-propagation by hand: the chain rule, factor by factor, against autograd and finite differences.

The smallest network with a hidden unit: ŷ = σ(w₂ σ(w₁ x)), L = ½ (ŷ - y)². The derivative of the loss by each
quantity is that by the next quantity, times one local factor; computed backwards, no factor is computed
twice.

Source: Rumelhart, Hinton & Williams (1986), "Learning representations by back-propagating errors",
doi:10.1038/323533a0. Finite differences: central, with an error of the order of the step squared.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from training.figures import COLOURS, new_figure
from training.laboratory import Laboratory
from training.study import Findings

INPUT, TARGET = 1.5, 0.1
START = (0.6, 1.2)  # w₁, w₂
STEPS = 60
RATE = 4.0  # each sigmoid divides the gradient by at least 4: steps must be large to be visible
LEVELS = (0.001, 0.003, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3)  # contour levels of the loss
STEP = 1e-5  # of finite differences: its square and the magnified rounding error are both near 1e-10


@dataclass(frozen=True)
class Forward:
    """All quantities of a forward pass."""

    x: float
    y: float
    w1: float
    w2: float
    z1: float
    h: float
    z2: float
    prediction: float
    loss: float


Gradients = dict[str, float]
"""Derivative of the loss L by each quantity, by its name."""


def sigmoid(z: float) -> float:
    """Returns 1 / (1 + e⁻ᶻ)."""
    return 1 / (1 + math.exp(-z))


def forward(w1: float, w2: float, x: float = INPUT, y: float = TARGET) -> Forward:
    """Computes the network's output and its loss."""
    z1 = w1 * x
    h = sigmoid(z1)
    z2 = w2 * h
    prediction = sigmoid(z2)
    return Forward(x, y, w1, w2, z1, h, z2, prediction, (prediction - y) ** 2 / 2)


def by_hand(f: Forward) -> Gradients:
    """Computes the derivatives by the chain rule, backwards from the loss."""
    prediction = f.prediction - f.y
    z2 = prediction * f.prediction * (1 - f.prediction)  # σ' = σ (1 - σ)
    w2 = z2 * f.h
    h = z2 * f.w2
    z1 = h * f.h * (1 - f.h)
    w1 = z1 * f.x
    return {"ŷ": prediction, "z₂": z2, "w₂": w2, "h": h, "z₁": z1, "w₁": w1}


def by_autograd(f: Forward) -> Gradients:
    """Computes the same derivatives with torch's autograd."""
    w1 = torch.tensor(f.w1, dtype=torch.float64, requires_grad=True)
    w2 = torch.tensor(f.w2, dtype=torch.float64, requires_grad=True)
    z1 = w1 * f.x
    h = torch.sigmoid(z1)
    z2 = w2 * h
    prediction = torch.sigmoid(z2)
    loss = (prediction - f.y) ** 2 / 2
    names, quantities = ("ŷ", "z₂", "w₂", "h", "z₁", "w₁"), (prediction, z2, w2, h, z1, w1)
    gradients = torch.autograd.grad(loss, quantities)
    return {name: float(gradient) for name, gradient in zip(names, gradients, strict=True)}


def by_differences(f: Forward) -> Gradients:
    """Computes the same derivatives by central differences of each quantity."""

    def loss_of(prediction: float) -> float:
        return (prediction - f.y) ** 2 / 2

    def slope(onwards: Callable[[float], float], at: float) -> float:
        return (onwards(at + STEP) - onwards(at - STEP)) / (2 * STEP)

    return {
        "ŷ": slope(loss_of, f.prediction),
        "z₂": slope(lambda z2: loss_of(sigmoid(z2)), f.z2),
        "w₂": slope(lambda w2: forward(f.w1, w2, f.x, f.y).loss, f.w2),
        "h": slope(lambda h: loss_of(sigmoid(f.w2 * h)), f.h),
        "z₁": slope(lambda z1: loss_of(sigmoid(f.w2 * sigmoid(z1))), f.z1),
        "w₁": slope(lambda w1: forward(w1, f.w2, f.x, f.y).loss, f.w1),
    }


METHODS: dict[str, Callable[[Forward], Gradients]] = {
    "by hand": by_hand,
    "autograd": by_autograd,
    "finite differences": by_differences,
}
RULES = {
    "ŷ": "ŷ − y",
    "z₂": "∂L/∂ŷ · ŷ (1 − ŷ)",
    "w₂": "∂L/∂z₂ · h",
    "h": "∂L/∂z₂ · w₂",
    "z₁": "∂L/∂h · h (1 − h)",
    "w₁": "∂L/∂z₁ · x",
}


def descend(method: Callable[[Forward], Gradients], steps: int) -> list[Forward]:
    """Returns the forward passes at the start and after each step of gradient descent."""
    passes = [forward(*START)]
    for _ in range(steps):
        gradients = method(passes[-1])
        w1 = passes[-1].w1 - RATE * gradients["w₁"]
        w2 = passes[-1].w2 - RATE * gradients["w₂"]
        passes.append(forward(w1, w2))
    return passes


def run(laboratory: Laboratory) -> Findings:
    """Compares the gradients at the start, then descends with each of the three methods."""
    table = {name: method(forward(*START)) for name, method in METHODS.items()}
    descents = {}
    for name, method in METHODS.items():
        params = {"method": name, "learning_rate": RATE, "w1": START[0], "w2": START[1]}
        with laboratory.run(name, {**params, "x": INPUT, "y": TARGET}) as log:
            descents[name] = descend(method, laboratory.scaled(STEPS))
            for quantity in ("loss", "w1", "w2", "prediction"):
                log.points({quantity: [(i, getattr(f, quantity)) for i, f in enumerate(descents[name])]})
            differences = _difference(table[name], table["by hand"])
            log.points({"largest_difference_from_hand": [(0, differences)]})
    metrics = {
        f"largest_difference_{name.replace(' ', '_')}": _difference(gradients, table["by hand"])
        for name, gradients in table.items()
        if name != "by hand"
    }
    figure = _figure(table, descents)
    return Findings(figure, _conclusion(metrics, descents), metrics, {"partials.md": _markdown(table)})


def _difference(some: Gradients, others: Gradients) -> float:
    return max(abs(some[name] - others[name]) for name in some)


def _conclusion(metrics: dict[str, float], descents: dict[str, list[Forward]]) -> str:
    first, last = descents["by hand"][0], descents["by hand"][-1]
    apart = max(abs(passes[-1].loss - last.loss) for passes in descents.values())
    return (
        f"The {len(RULES)} derivatives by hand differ from autograd's by at most "
        f"{metrics['largest_difference_autograd']:.1e} and from finite differences by at most "
        f"{metrics['largest_difference_finite_differences']:.1e}. {len(descents['by hand']) - 1} steps of "
        f"descent lower the loss from {first.loss:.4f} to {last.loss:.2g} and move the prediction from "
        f"{first.prediction:.3f} to {last.prediction:.3f} (target {TARGET:g}); the three methods end "
        f"{apart:.1e} apart at most."
    )


def _rows(table: dict[str, Gradients]) -> list[list[str]]:
    return [
        [f"∂L/∂{name}", rule, *(f"{gradients[name]:.10f}" for gradients in table.values())]
        for name, rule in RULES.items()
    ]


def _markdown(table: dict[str, Gradients]) -> str:
    f = forward(*START)
    lines = [
        f"x = {f.x:g}, y = {f.y:g}, w₁ = {f.w1:g}, w₂ = {f.w2:g}",
        "",
        f"z₁ = w₁ x = {f.z1:.6f}, h = σ(z₁) = {f.h:.6f}, z₂ = w₂ h = {f.z2:.6f}, "
        f"ŷ = σ(z₂) = {f.prediction:.6f}, L = ½ (ŷ − y)² = {f.loss:.6f}",
        "",
        f"| derivative | chain rule | {' | '.join(table)} |",
        f"|{'---|' * (2 + len(table))}",
        *(f"| {' | '.join(row)} |" for row in _rows(table)),
        "",
    ]
    return "\n".join(lines)


def _figure(table: dict[str, Gradients], descents: dict[str, list[Forward]]) -> Figure:
    """Draws the derivatives as a table, and each method's descent on the loss surface and by step."""
    figure, ((top, _), (surface, curve)) = new_figure(2, 2, 5.4, 3.2)
    figure.delaxes(figure.axes[1])
    top.set_subplotspec(top.get_gridspec()[0, :])  # the table is as wide as both plots
    top.axis("off")
    f = forward(*START)
    top.set_title(
        f"ŷ = σ(w₂ σ(w₁ x)),  L = ½ (ŷ − y)²   at x = {f.x:g}, y = {f.y:g}, w₁ = {f.w1:g}, w₂ = {f.w2:g}\n"
        f"forward:  z₁ = {f.z1:.4f}   h = {f.h:.4f}   z₂ = {f.z2:.4f}   ŷ = {f.prediction:.4f}   "
        f"L = {f.loss:.4f}"
    )
    cells = top.table(
        _rows(table),
        colLabels=["backward", "chain rule", *table],
        cellLoc="center",
        bbox=Bbox.unit(),
        edges="horizontal",
    )
    cells.auto_set_font_size(False)
    cells.set_fontsize(11)
    for (row, _), cell in cells.get_celld().items():
        cell.set_edgecolor("0.8")
        cell.set_text_props(fontweight="bold" if row == 0 else "normal")
    path = np.array([(f.w1, f.w2) for f in descents["by hand"]])
    left_edge, right_edge = path[:, 0].min() - 0.6, path[:, 0].max() + 0.6
    bottom, upper = path[:, 1].min() - 0.6, path[:, 1].max() + 0.6
    w1, w2 = np.meshgrid(np.linspace(left_edge, right_edge, 80), np.linspace(bottom, upper, 80))
    grid = np.vectorize(lambda a, b: forward(a, b).loss)(w1, w2)
    lines = surface.contour(w1, w2, grid, levels=LEVELS, colors="0.7", linewidths=0.8)
    surface.clabel(lines, fontsize=8, fmt="%g")
    surface.set(title="Descent over the two weights", xlabel="w₁", ylabel="w₂")
    surface.grid(False)
    curve.set(title="Loss by step", xlabel="step", ylabel="L", yscale="log")
    for (name, passes), colour, width in zip(descents.items(), COLOURS, (7, 4, 1.5), strict=False):
        style = {"color": colour, "linewidth": width, "label": name, "solid_capstyle": "round"}
        surface.plot([f.w1 for f in passes], [f.w2 for f in passes], **style)
        curve.plot([f.loss for f in passes], **style)
    surface.plot(*START, "o", color="black", markersize=7)
    surface.annotate("start", START, (8, 4), textcoords="offset points")
    curve.legend(title="gradients")
    return figure
