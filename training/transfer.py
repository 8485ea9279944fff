"""Transfer learning: starts from weights that were trained on other data.

Weights come from a registered version of the zoo, by name, or from ImageNet. The classifier is initialized
anew if it does not fit, because of other classes or image sizes. A first convolution for colour images is
adapted to grey ones by adding up its three kernels; one for grey images is adapted to colour by dividing its
kernel among three channels, so that a grey image gives the same activations as before.

Source: Yosinski, Clune, Bengio & Lipson (2014), "How transferable are features in deep neural networks?",
arXiv:1411.1792.
"""

import re
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor, nn

from training import promotion, tracking
from zoo.errors import InvalidInput, ZooError

IMAGENET = "imagenet"
HEAD = "classifier"
"""Name of the part of every image model that classifies; the other parts are transferred."""
REFERENCE = re.compile(r"(?P<name>[^@/]+)(@(?P<alias>[^@/]+)|/(?P<version>\d+))?")

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Transfer:
    """Initial weights, and which of them are trained."""

    pretrained: str | None = None
    """Start from these weights: NAME (its champion), NAME@ALIAS or NAME/VERSION of the zoo, or imagenet."""
    freeze: str | None = None
    """Part of the model that is not trained, such as features."""
    unfreeze_at: int | None = None
    """Number of epochs after which the frozen part is trained, too."""
    unfreeze_from: str | None = None
    """First layer or block of the frozen part to be trained then, such as features.blocks.8; those before it
    stay frozen. Features like edges and textures are general, and training on few images would spoil them."""
    head_learning_rate: float | None = None
    """Learning rate of the classifier; the other parts use the optimizer's."""
    compare: bool = True
    """Also train from scratch, for as long, and log how much the pretrained weights gained."""

    def __post_init__(self) -> None:
        if self.unfreeze_at is not None and (self.freeze is None or self.unfreeze_at < 1):
            raise ZooError("unfreeze_at is the number of epochs, at least 1, for which freeze holds")
        if self.unfreeze_from is not None and self.unfreeze_at is None:
            raise ZooError("unfreeze_from is where training begins at unfreeze_at: give both, or neither")

    def rates(self, model: nn.Module) -> tuple[tuple[nn.Module, float], ...]:
        """Returns parts of the model with their own learning rates."""
        if self.head_learning_rate is None:
            return ()
        return ((part(model, HEAD), self.head_learning_rate),)

    def frozen(self, model: nn.Module, steps_an_epoch: int) -> "Frozen | None":
        """Returns the frozen part or None; raises `InvalidInput`, which lists parts, if it does not exist."""
        if self.freeze is None:
            return None
        frozen = part(model, self.freeze)
        until = None if self.unfreeze_at is None else self.unfreeze_at * steps_an_epoch
        if self.unfreeze_from is None:
            return Frozen(frozen, until)
        first = part(model, self.unfreeze_from)
        if first not in frozen.modules():
            raise InvalidInput(f"unfreeze_from must be in {self.freeze}, not {self.unfreeze_from}")
        return Frozen(frozen, until, first)


class Frozen:
    """A part of a network whose weights and running statistics are frozen, for some steps or permanently."""

    def __init__(self, module: nn.Module, until: int | None, first: nn.Module | None = None) -> None:
        """`until` is the step at which it is unfrozen, except for the layers before `first`."""
        self.module = module
        self.until = until
        before = () if first is None else takewhile(lambda layer: layer is not first, module.modules())
        self.kept = [layer for layer in before if first not in set(layer.modules())]

    def update(self, step: int) -> None:
        """Freezes or unfreezes the part; must be called before each step."""
        frozen = self.until is None or step < self.until
        self.module.requires_grad_(not frozen)
        self.module.train(not frozen)
        for layer in self.kept:
            layer.requires_grad_(False)
            layer.eval()


def part(model: nn.Module, name: str) -> nn.Module:
    """Returns a part of a model by its dotted name; raises `InvalidInput`, which lists parts, if missing."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        parts = ", ".join(child for child, _ in model.named_children())
        raise InvalidInput(f"{type(model).__name__} has no part {name!r}; it has {parts}") from None


def registered_weights(reference: str) -> Weights:
    """Returns the weights of a registered version; raises `NotFound` if version or weights are missing."""
    matched = REFERENCE.fullmatch(reference)
    if matched is None:
        raise InvalidInput(f"{reference!r} is none of NAME, NAME@ALIAS, NAME/VERSION and {IMAGENET}")
    name, alias, version = matched["name"], matched["alias"], matched["version"]
    if version is None:
        name, version = promotion.resolve(name, alias or "champion")
    return tracking.weights_of(promotion.run_of(name, version))


def load(model: nn.Module, given: Weights) -> list[str]:
    """Loads weights by name; returns the names of the parameters that keep their initial values.

    Raises `InvalidInput` if other parts differ than the classifier and the channels of the first convolution.
    """
    own = model.state_dict()
    fitted = {name: _fit(given[name], tensor) for name, tensor in own.items() if name in given}
    taken = {name: tensor for name, tensor in fitted.items() if tensor is not None}
    fresh = [name for name in own if name not in taken]
    if wrong := [name for name in fresh if not name.startswith(f"{HEAD}.")]:
        shapes = ", ".join(
            f"{name} is {tuple(own[name].shape)} here and "
            + (f"{tuple(given[name].shape)} there" if name in given else "missing there")
            for name in wrong[:3]
        )
        raise InvalidInput(
            f"the pretrained weights are of another network: {shapes}; give the --model settings that they "
            "were trained with"
        )
    model.load_state_dict(taken, strict=False)
    names = {name for name, _ in model.named_parameters()}
    return [name for name in fresh if name in names]


def _fit(given: Tensor, own: Tensor) -> Tensor | None:
    """Returns the given tensor in the shape of the model's own, or None if it does not fit."""
    if given.shape == own.shape:
        return given
    is_kernel = given.dim() == own.dim() == 4 and given[:, 0].shape == own[:, 0].shape
    if is_kernel and own.shape[1] == 1:  # [N, C, H, W] -> [N, 1, H, W]
        return given.sum(dim=1, keepdim=True)
    if is_kernel and given.shape[1] == 1:  # [N, 1, H, W] -> [N, C, H, W]
        return torch.repeat_interleave(given, own.shape[1], dim=1) / own.shape[1]
    return None
