"""Low-rank adaptation: fine-tunes a trained network by a small addition to some of its weight matrices.

Source: Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685. The product
`up @ down`, scaled by alpha / rank, is added to a weight W, which is frozen. `up` is initialized with zeros,
so that the network is unchanged at first; after training the addition is merged into W, so that inference is
no slower. Deviation: `down` is initialized like an affine layer's weight, as in the authors' code, not from a
normal distribution.

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
    """Settings of the addition, and the layers that get it."""

    rank: int = 8
    """Rank of the matrix that is added to a weight."""
    alpha: float = 16.0
    """The matrix is scaled by alpha / rank, so that one learning rate suits different ranks."""
    dropout: float = 0.0
    """Dropout rate of the addition's inputs during training."""
    layers: str = "query, value"
    """Names of the affine layers to adapt, separated by commas."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ZooError(f"rank must be at least 1, not {self.rank}")

    def adapt(self, network: nn.Module) -> None:
        """Freezes a network and adapts the chosen layers; raises `ZooError` if a layer does not exist."""
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
    """A frozen affine layer [..., D] -> [..., E] with a trainable low-rank addition."""

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
        """Returns the layer with the addition merged into its weight."""
        layer = copy.deepcopy(self.layer)
        with torch.no_grad():
            layer.weight += self.scale * self.up @ self.down
        return layer


def merge(network: nn.Module) -> None:
    """Replaces a network's adapted layers by merged affine layers."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, Adapted):
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, layer.merged())


def additions(network: nn.Module) -> dict[str, Tensor]:
    """Returns the trainable parameters, by name: those of the additions."""
    return {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
