"""VGG16, a deep network of stacked 3x3 convolutions.

Source: Simonyan & Zisserman (2014), "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv:1409.1556. One config covers the paper's configurations A (11 layers with weights), D (16) and E (19);
138,357,544 parameters for D at 224 pixels with 1,000 classes.

Parameters have torchvision's names, so that its ImageNet weights load. Deviations: a `width` below 64 narrows
every layer in proportion; the config sets the size of the classifier's hidden layers, the image that of its
input; `hidden=0` leaves one affine layer after global average pooling, enough for small images; batch
normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167) is optional; pooling rounds odd sides up, so that 28
pixels leave a map after five halvings; initial weights are Kaiming's (He et al. 2015, arXiv:1502.01852),
where the paper trained shallow networks first, or Dirac's (Zagoruyko & Komodakis 2017, arXiv:1706.00388).

Shape legend: B batch, C channels, H height, W width, K classes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

CONVOLUTIONS = {"A": (1, 1, 2, 2, 2), "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}
"""Number of convolutions in each of the five blocks, by the paper's letter."""
WIDTHS = (1, 2, 4, 8, 8)  # widths of the blocks, as multiples of the first
REDUCTION = 32  # five poolings halve the side five times


@dataclass(frozen=True)
class VGG16Config:
    """Configuration of VGG16; the defaults are the paper's."""

    configuration: Literal["A", "D", "E"] = "D"
    """Configuration by the paper's letter: 11, 16 or 19 layers with weights."""
    batch_norm: bool = False
    """Add batch normalisation after each convolution."""
    width: int = 64
    """Kernels in the first block; the others have 2, 4, 8 and 8 times as many."""
    hidden: int = 4096
    """Units of each of the classifier's two hidden layers; 0 for no hidden layers and global average
    pooling."""
    dropout: float = 0.5
    """Share of units dropped in the classifier during training."""
    initial: Literal["kaiming", "dirac"] = "kaiming"
    """Initial weights: random, or such that each convolution passes its input on, which lets a deep stack
    learn in fewer epochs (with batch normalisation)."""


class VGG16(nn.Module):
    """Image classifier: [B, C, H, W] -> logits [B, K]."""

    def __init__(self, config: VGG16Config, channels: int, size: int, classes: int) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * factor for factor in WIDTHS]
        layers: list[nn.Module] = []
        for depth, width in zip(CONVOLUTIONS[config.configuration], widths, strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width)] if config.batch_norm else []
                layers.append(nn.ReLU())
                channels = width
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)  # [B, C, H, W] -> [B, 8 width, side, side]
        side = 1 if config.hidden == 0 else -(-size // REDUCTION)
        self.avgpool = nn.AdaptiveAvgPool2d(1) if config.hidden == 0 else nn.Identity()
        self.classifier = _classifier(config, channels * side**2, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if config.initial == "dirac":
                    with torch.no_grad():  # one kernel for each input map passes it on
                        nn.init.dirac_(module.weight[: module.in_channels])
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)  # the paper's initialisation
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.avgpool(self.features(image))
        logits: Tensor = self.classifier(maps.flatten(1))  # [B, 8 width, side, side] -> [B, 8 width side²]
        return logits


def _classifier(config: VGG16Config, inputs: int, classes: int) -> nn.Sequential:
    if config.hidden == 0:
        return nn.Sequential(nn.Dropout(config.dropout), nn.Linear(inputs, classes))
    return nn.Sequential(
        nn.Linear(inputs, config.hidden),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, config.hidden),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, classes),
    )
