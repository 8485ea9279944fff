"""AlexNet, the convolutional network that won ImageNet in 2012.

Source: Krizhevsky, Sutskever & Hinton (2012), "ImageNet Classification with Deep Convolutional Neural
Networks", doi:10.1145/3065386.

The config gives the same design at two scales: the paper's for 224 pixels (60,965,224 parameters with 1,000
classes), and `SMALL` for 28 or 32 pixels, where a first kernel of 11 with stride 4 would leave no feature
maps. Deviations: the paper splits the second, fourth and fifth convolution over two GPUs; `groups=2` splits
them in the same way on one device. The first convolution pads by 2, so that 224 pixels give the paper's 55.
Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167) can replace local response normalisation, and
does in `SMALL`: it trains several times faster. Weights are initialised as by He et al. (2015,
arXiv:1502.01852): the paper's own constants fit only its own widths.

Shape legend: B batch, C channels, H height, W width, K classes.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

DEPTH = 5
POOLED = (0, 1, 4)  # convolutions that are followed by pooling
GROUPED = (1, 3, 4)  # convolutions that the paper splits over its two GPUs
NORMALISED = (0, 1)  # convolutions that the paper normalises


@dataclass(frozen=True)
class AlexNetConfig:
    """Configuration of AlexNet; the defaults are the paper's."""

    widths: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    """Number of kernels in each of the five convolutions."""
    kernels: tuple[int, int, int, int, int] = (11, 5, 3, 3, 3)
    """Side of the kernels in each convolution."""
    stride: int = 4
    """Stride of the first convolution."""
    padding: int = 2
    """Padding of the first convolution; the others keep their input's size."""
    pooling: tuple[int, int] = (3, 2)
    """Side and stride of max pooling; the paper's windows overlap."""
    groups: int = 2
    """Parts into which the second, fourth and fifth convolution are split."""
    hidden: int = 4096
    """Units of the two hidden layers."""
    dropout: float = 0.5
    """Share of units dropped before each hidden layer."""
    normalisation: Literal["local response", "batch"] = "local response"
    """Kind of normalisation: local response after the first two convolutions, as in the paper, or batch after
    each."""


SMALL = AlexNetConfig(
    widths=(32, 96, 128, 128, 96),
    kernels=(3, 3, 3, 3, 3),
    stride=1,
    padding=1,
    groups=1,
    hidden=512,
    dropout=0.3,
    normalisation="batch",
)
"""Configuration for images of 28 or 32 pixels."""


class AlexNet(nn.Module):
    """Image classifier: [B, C, H, W] -> logits [B, K]."""

    def __init__(self, config: AlexNetConfig, channels: int, size: int, classes: int) -> None:
        """Raises `ValueError` if images of `size` pixels are too small to leave a feature map."""
        super().__init__()
        self.config = config
        side = feature_side(config, size)
        if side < 1:
            raise ValueError(f"images of {size} pixels are too small for this AlexNet; take more padding")
        layers: list[nn.Module] = []
        for depth in range(DEPTH):
            layers += _convolution(config, depth, channels if depth == 0 else config.widths[depth - 1])
        self.features = nn.Sequential(*layers)  # [B, C, H, W] -> [B, widths[4], side, side]
        hidden = config.hidden
        self.classifier = nn.Sequential(
            nn.Flatten(),  # [B, widths[4], side, side] -> [B, widths[4] side²]
            nn.Dropout(config.dropout),
            nn.Linear(config.widths[-1] * side**2, hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(image))
        return logits


def feature_side(config: AlexNetConfig, size: int) -> int:
    """Returns the side of the last feature maps for images of `size` pixels."""
    side = (size + 2 * config.padding - config.kernels[0]) // config.stride + 1
    for _ in POOLED:
        side = (side - config.pooling[0]) // config.pooling[1] + 1
    return side


def _convolution(config: AlexNetConfig, depth: int, inputs: int) -> list[nn.Module]:
    """Returns one convolution with its normalisation, activation and pooling."""
    width, kernel = config.widths[depth], config.kernels[depth]
    stride, padding = (config.stride, config.padding) if depth == 0 else (1, kernel // 2)
    groups = config.groups if depth in GROUPED else 1
    layers: list[nn.Module] = [nn.Conv2d(inputs, width, kernel, stride, padding, groups=groups)]
    if config.normalisation == "batch":
        layers.append(nn.BatchNorm2d(width))
    layers.append(nn.ReLU())
    if config.normalisation == "local response" and depth in NORMALISED:
        layers.append(nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0))  # torch divides alpha by 5
    if depth in POOLED:
        layers.append(nn.MaxPool2d(*config.pooling))
    return layers
