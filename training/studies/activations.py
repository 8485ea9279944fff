"""Vanishing gradients: the effect of the activation function in networks of growing depth.

Multilayer perceptrons on the digits with sigmoid, tanh and ReLU. Back-propagation through a layer multiplies
the gradient by the activation's slope: at most 1/4 for the sigmoid, at most 1 for tanh, 0 or 1 for ReLU. With
several layers of sigmoids, the gradient of the first ones is too small to learn from.

Source: Hochreiter (1991), "Untersuchungen zu dynamischen neuronalen Netzen"; Glorot & Bengio (2010),
"Understanding the difficulty of training deep feedforward neural networks"; Glorot, Bordes & Bengio
(2011), "Deep Sparse Rectifier Neural Networks".
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure
from torch import nn

from training.figures import COLOURS, new_figure
from training.laboratory import Laboratory, Trial
from training.optimizer import Optimizer
from training.recipes.mlp import MLPRecipe
from training.study import Findings
from zoo.models.mlp import MLPConfig

Activation = Literal["sigmoid", "tanh", "relu"]
ACTIVATIONS: dict[Activation, tuple[str, str]] = {
    "sigmoid": ("sigmoid", COLOURS[1]),
    "tanh": ("tanh", COLOURS[0]),
    "relu": ("ReLU", COLOURS[2]),
}
"""Name and colour of each activation function in the figure."""
DEPTHS = (1, 2, 4, 8)
WIDTH = 64  # the number of inputs, so that no layer is a bottleneck
EPOCHS = 30
# Plain momentum, because Adam divides by the gradient's size, which hides that it vanishes.
RECIPE = MLPRecipe(
    dataset="digits", epochs=EPOCHS, batch_size=64, optimizer=Optimizer("sgd", 0.05, momentum=0.9)
)


@dataclass(frozen=True)
class Outcome:
    """Result of one run."""

    accuracy: Sequence[float]
    """Validation accuracy after each epoch."""
    gradients: Sequence[float]
    """Root mean square of each layer's weight gradient in the first step, from the input layer on."""
    test_accuracy: float

    @property
    def ratio(self) -> float:
        """Ratio of the first layer's gradient to the last layer's."""
        return self.gradients[0] / self.gradients[-1]


def first_gradients(trial: Trial) -> list[float]:
    """Returns a list that the first step fills with the root mean square of each layer's weight gradient."""

    def record(*_: object) -> None:
        if not found:
            layers = (m for m in objective.network.modules() if isinstance(m, nn.Linear))
            gradients = (layer.weight.grad for layer in layers)
            found.extend(float(g.square().mean().sqrt()) for g in gradients if g is not None)

    objective = trial.prepared.objective
    found: list[float] = []
    objective.optimizers[0].register_step_pre_hook(record)
    return found


def run(laboratory: Laboratory) -> Findings:
    """Trains networks with every activation at every depth."""
    outcomes = {}
    for depth in DEPTHS:
        for activation, (name, _) in ACTIVATIONS.items():
            recipe = dataclasses.replace(
                RECIPE,
                epochs=laboratory.scaled(EPOCHS),
                model=MLPConfig(hidden=(WIDTH,) * depth, activation=activation),
            )
            with laboratory.trial(f"{name}, {depth} hidden", recipe) as trial:
                trial.log.params({"depth": depth})
                gradients = first_gradients(trial)
                progress = trial.train()
                accuracy = [value for _, value in progress.history["validation_accuracy"]]
                outcome = Outcome(accuracy, gradients, trial.measure(trial.prepared.data.test)["accuracy"])
                # The step of this metric is the layer, so that MLflow plots the gradient over the depth.
                trial.log.points({"gradient_by_layer": list(enumerate(gradients, start=1))})
                trial.log.points(
                    {
                        "test_accuracy": [(0, outcome.test_accuracy)],
                        "gradient_first_over_last": [(0, outcome.ratio)],
                    }
                )
                outcomes[activation, depth] = outcome
    metrics = {f"test_accuracy_{a}_{depth}": o.test_accuracy for (a, depth), o in outcomes.items()}
    return Findings(_figure(outcomes), _conclusion(outcomes), metrics)


def _conclusion(outcomes: dict[tuple[Activation, int], Outcome]) -> str:
    shallow, deep = min(DEPTHS), max(DEPTHS)
    lines = [
        f"Gradient of the first layer over that of the last at the start, and test accuracy, with "
        f"{shallow} and {deep} hidden layers:"
    ]
    for activation, (name, _) in ACTIVATIONS.items():
        few, many = outcomes[activation, shallow], outcomes[activation, deep]
        lines.append(
            f"- {name}: gradient {few.ratio:.2g} and {many.ratio:.2g}, "
            f"accuracy {few.test_accuracy:.3f} and {many.test_accuracy:.3f}"
        )
    return "\n".join(lines)


def _figure(outcomes: dict[tuple[Activation, int], Outcome]) -> Figure:
    """Draws one column per depth: learning curves above, gradients by layer below."""
    figure, (curves, layers) = new_figure(2, len(DEPTHS), 3.1, 3.0)
    for depth, curve, layer in zip(DEPTHS, curves, layers, strict=True):
        for activation, (name, colour) in ACTIVATIONS.items():
            outcome = outcomes[activation, depth]
            epochs = range(1, len(outcome.accuracy) + 1)
            curve.plot(epochs, outcome.accuracy, color=colour, linewidth=2, label=name)
            positions = range(1, len(outcome.gradients) + 1)
            layer.plot(positions, outcome.gradients, color=colour, marker="o", linewidth=2)
        curve.set(title=f"{depth} hidden layer{'s' if depth > 1 else ''}", xlabel="epoch", ylim=(0, 1.02))
        layer.set(xlabel="layer, from the input on", yscale="log", ylim=(1e-8, 1), xticks=positions)
    curves[0].set_ylabel("validation accuracy")
    curves[0].legend(loc="lower right")
    layers[0].set_ylabel("gradient at the start\n(root mean square)")
    return figure
