"""Local and global minima: optimisers that escape the nearest hollow of the loss.

A loss of one weight with three hollows, of which the middle one is the lowest. Plain descent ends in the
hollow that it starts in. Momentum carries the weight through shallow ones. While the rate is large, the noise
of stochastic gradients moves the weight out of shallow hollows more often than out of deep ones; as the rate
decays to zero, the weight settles (a form of simulated annealing).

Source: Bottou (1991), "Stochastic Gradient Learning in Neural Networks"; Kirkpatrick, Gelatt & Vecchi
(1983), doi:10.1126/science.220.4598.671. The loss is made for this study.

Shape legend: S starts, T steps.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from training.figures import COLOURS, new_figure
from training.laboratory import Laboratory
from training.optimizer import Optimizer
from training.study import Findings

STEPS = 400
STARTS = 100  # per seed
SEEDS = 5
RANGE = 5.0  # starts are uniform in -5..5
EXAMPLES = 64  # the loss is their mean
SHOWN = -4.3  # start of the path that is drawn: on the slope of the outermost hollow
REACHED, STUCK = COLOURS[0], COLOURS[1]


@dataclass(frozen=True)
class Rule:
    """An optimiser, and the noise of the gradients that it gets."""

    optimizer: Optimizer
    noise: float
    """Standard deviation of the examples' gradients; 0 uses their mean."""


# The same rate for plain descent and SGD, so that they differ only in noise. Momentum has a smaller one,
# because it adds up ten steps.
RULES = {
    "plain descent": Rule(Optimizer("sgd", 0.2, schedule="cosine"), noise=0.0),
    "momentum": Rule(Optimizer("sgd", 0.05, momentum=0.9, schedule="cosine"), noise=0.0),
    "SGD's noise": Rule(Optimizer("sgd", 0.2, schedule="cosine"), noise=2.0),
}


def loss(weight: Tensor) -> Tensor:
    """Returns the mean loss of all examples, a parabola plus a cosine, elementwise."""
    return 0.08 * (weight - 0.3) ** 2 + 0.3 * (1 - torch.cos(2.2 * weight))


def hollows() -> tuple[float, tuple[float, float]]:
    """Returns the weight at the lowest minimum, and the maxima left and right of it."""
    weight = torch.linspace(-RANGE, RANGE, 10_001, dtype=torch.float64)
    height = loss(weight)
    lowest = int(height.argmin())
    rising = height.diff().sign()
    tops = (rising[:-1] > 0) & (rising[1:] < 0)
    at = torch.nonzero(tops).flatten() + 1
    return float(weight[lowest]), (float(weight[at[at < lowest].max()]), float(weight[at[at > lowest].min()]))


def descend(rule: Rule, starts: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the weights [T + 1, S] after each step from all starts [S], which descend independently.

    Example i has the loss f(w) + aᵢ w with Σ aᵢ = 0, so that the mean over examples is f; a noisy step uses
    one random example for each start.
    """
    module = nn.Module()
    module.weight = nn.Parameter(starts.clone())
    slopes = torch.randn(EXAMPLES, generator=generator, dtype=starts.dtype)
    slopes = rule.noise * (slopes - slopes.mean()) / slopes.std(correction=0)
    optimizer, schedule = rule.optimizer.build(module, STEPS)
    path = [starts]
    for _ in range(STEPS):
        drawn = slopes[torch.randint(EXAMPLES, starts.shape, generator=generator)]  # [S]
        optimizer.zero_grad()
        (loss(module.weight) + drawn * module.weight).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        path.append(module.weight.detach().clone())
    return torch.stack(path)


def reached(path: Tensor) -> NDArray[np.bool_]:
    """Returns True for each start [S] that ended in the lowest hollow."""
    _, (left, right) = hollows()
    inside: NDArray[np.bool_] = ((path[-1] > left) & (path[-1] < right)).numpy()
    return inside


def explore(rule: Rule, seed: int) -> tuple[float, Tensor]:
    """Returns the share of a seed's starts that end in the lowest hollow, and all paths [T + 1, S]."""
    generator = torch.Generator().manual_seed(seed)
    starts = RANGE * (2 * torch.rand(STARTS, generator=generator, dtype=torch.float64) - 1)
    starts[0] = SHOWN
    path = descend(rule, starts, generator)
    return float(reached(path).mean()), path


def run(laboratory: Laboratory) -> Findings:
    """Descends by every rule from many random starts, with several seeds."""
    shares: dict[str, list[float]] = {name: [] for name in RULES}
    paths: dict[str, Tensor] = {}
    for name, rule in RULES.items():
        for seed in range(laboratory.scaled(SEEDS)):
            optimizer = rule.optimizer
            params = {
                "rule": name,
                "seed": seed,
                "learning_rate": optimizer.learning_rate,
                "momentum": optimizer.momentum,
                "noise": rule.noise,
            }
            with laboratory.run(f"{name} seed {seed}", params) as log:
                share, path = explore(rule, seed)
                shares[name].append(share)
                paths.setdefault(name, path)
                log.points({"mean_loss": list(enumerate(loss(path[::10]).mean(dim=1).tolist()))})
                log.points({"share_global": [(0, share)]})
    metrics = {f"share_global_{_key(name)}": float(np.mean(shares[name])) for name in RULES}
    return Findings(_figure(shares, paths), _conclusion(shares), metrics)


def _key(name: str) -> str:
    return name.replace("'s", "").replace(" ", "_").lower()


def _conclusion(shares: dict[str, list[float]]) -> str:
    means = {name: float(np.mean(values)) for name, values in shares.items()}
    seeds = len(next(iter(shares.values())))
    lines = [f"Share of {STARTS} random starts that end in the global minimum, mean over {seeds} seeds:"]
    lines += [
        f"- {name}: {100 * mean:.0f}% ({100 * min(shares[name]):.0f} to {100 * max(shares[name]):.0f}%)"
        for name, mean in means.items()
    ]
    lines.append(f"\nMost often: {max(means, key=lambda name: means[name])}.")
    return "\n".join(lines)


def _figure(shares: dict[str, list[float]], paths: dict[str, Tensor]) -> Figure:
    """Draws one path per rule with the outcome of every start below it, and the shares that succeed."""
    figure, (axes,) = new_figure(1, 4, 3.2, 3.6)
    for axis, name in zip(axes, RULES, strict=False):
        _draw(axis, name, paths[name])
    axes[0].set_ylabel("loss")
    axes[0].legend(loc="upper right", title="starts (ticks below)", markerscale=1.2)
    bars = axes[3]
    for at, values in enumerate(shares.values()):
        mean = float(np.mean(values))
        bars.bar(at, mean, color=REACHED, width=0.6)
        bars.plot(np.full(len(values), at), values, color="black", marker="_", markersize=12, linestyle="")
        bars.text(at, max(values) + 0.03, f"{100 * mean:.0f}%", ha="center", fontweight="bold")
    bars.set_xticks(range(len(shares)), [name.replace(" ", "\n") for name in shares])
    bars.set(title="Starts that reach it\n(lines: single seeds)", ylim=(0, 1.05), ylabel="share")
    bars.grid(visible=False, axis="x")
    return figure


def _draw(axis: Any, name: str, path: Tensor) -> None:
    lowest, _ = hollows()
    line = torch.linspace(-RANGE, RANGE, 400, dtype=torch.float64)
    axis.plot(line, loss(line), color="0.6", linewidth=2, zorder=1)
    inside = reached(path)
    for fate, colour, label in ((inside, REACHED, "reaches it"), (~inside, STUCK, "gets stuck")):
        starts = path[0][torch.from_numpy(fate)]
        axis.plot(starts, torch.full_like(starts, -0.22), "|", color=colour, markersize=9, label=label)
    shown = path[:, 0]
    colour = REACHED if inside[0] else STUCK
    axis.plot(shown, loss(shown), ".", color=colour, markersize=5, zorder=2)
    axis.plot(shown[-1], loss(shown[-1]), "o", color=colour, markersize=10, zorder=4)
    axis.plot(lowest, float(loss(torch.tensor(lowest))), "*", color="black", markersize=12, zorder=5)
    axis.set(title=name[0].upper() + name[1:], xlabel="weight", xlim=(-RANGE, RANGE), ylim=(-0.4, 2.9))
