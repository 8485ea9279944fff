"""Low-rank adaptation: a trained network learns something else by a small addition to some of its matrices.

Source: Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685. To a
weight W is added `up @ down`, scaled by alpha / rank, while W stays as it is. `up` begins with zeros, and so
the network as it was; in the end the addition goes into W, so that the network that answers is no slower.
Deviation: `down` begins as an affine layer's weight does, as in the authors' code, not normally distributed.

Shape legend: D inputs, E outputs, R rank.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from zoo.errors import ZooError


@dataclass(frozen=True)
class LowRank:
    """What is added to which layers."""

    rank: int = 8
    """Rank of the matrix that is added to a weight."""
    alpha: float = 16.0
    """The matrix is scaled by alpha / rank, so that the learning rate may stay as the rank changes."""
    dropout: float = 0.0
    """Share of an adapted layer's inputs that the addition does not see, while training."""
    layers: str = "query, value"
    """Names of the affine layers that it is added to, separated by commas."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ZooError(f"rank must be at least 1, not {self.rank}")

    def adapt(self, network: nn.Module) -> None:
        """Freezes a network but for what is added to the chosen layers; `ZooError` names those there are."""
        network.requires_grad_(False)
        found = {name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)}
        last = {name.rpartition(".")[2] for name in found}
        chosen = [name.strip() for name in self.layers.split(",")]
        if unknown := [name for name in chosen if name not in last]:
            raise ZooError(
                f"there are no layers {', '.join(unknown)}; choose among {', '.join(sorted(last))}"
            )
        for name in sorted(found):
            parent, _, own = name.rpartition(".")
            if own in chosen:
                layer = network.get_submodule(name)
                assert isinstance(layer, nn.Linear)
                setattr(network.get_submodule(parent), own, Adapted(layer, self))


class Adapted(nn.Module):
    """An affine layer [..., D] -> [..., E] that stays as it is, and what is added to it."""

    def __init__(self, layer: nn.Linear, settings: LowRank) -> None:
        super().__init__()
        self.layer = layer
        self.scale = settings.alpha / settings.rank
        self.dropout = nn.Dropout(settings.dropout)
        self.down = nn.Parameter(torch.empty(settings.rank, layer.in_features))  # [R, D]
        self.up = nn.Parameter(torch.zeros(layer.out_features, settings.rank))  # [E, R]
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        seen = F.linear(self.dropout(x), self.down)
        added: Tensor = self.layer(x) + self.scale * F.linear(seen, self.up)
        return added

    def merged(self) -> nn.Linear:
        """The layer with the addition in its weight."""
        layer = copy.deepcopy(self.layer)
        with torch.no_grad():
            layer.weight += self.scale * self.up @ self.down
        return layer


def merge(network: nn.Module) -> None:
    """Makes affine layers of a network's adapted ones."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, Adapted):
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, layer.merged())


def additions(network: nn.Module) -> dict[str, Tensor]:
    """The parameters that were added, by name."""
    return {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
