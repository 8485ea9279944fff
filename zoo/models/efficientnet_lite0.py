"""EfficientNet-Lite0, a small network for photographs; its shape was found by architecture search.

Source: Tan & Le (2019), "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
arXiv:1905.11946, table 1 (B0). The Lite variant is Liu's (2020), in TensorFlow's `tpu` repository,
models/official/efficientnet/lite: no squeeze-and-excitation, ReLU6 instead of swish, nothing else changed in
Lite0. Its block is MobileNetV2's (Sandler et al. 2018, arXiv:1801.04381). 4,652,008 parameters with 1,000
classes.

The ImageNet weights expect convolutions padded as TensorFlow's "SAME", and inputs scaled as
(pixel - 127) / 128. Deviations: no stochastic depth. Batch normalisation updates its running statistics by
torch's default (0.1 per step, not 0.01), because training has fewer steps than 0.01 needs. The network
resizes images to the config's side, so that its graph takes a data set's own pixels, and repeats grey images
in three channels.

Shape legend: B batch, C channels, H height, W width, K classes.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

STEM = 32
STAGES = (
    # expansion, kernel side, stride of the first block, width, blocks
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
HEAD = 1280
EPSILON = 1e-3  # epsilon of batch normalisation, as in the original


@dataclass(frozen=True)
class EfficientNetLite0Config:
    """Configuration of EfficientNet-Lite0."""

    size: int = 128
    """Side in pixels that images are resized to; the ImageNet weights were trained at 224."""
    dropout: float = 0.2
    """Share of the classifier's inputs dropped during training."""


class Convolution(nn.Module):
    """Convolution and batch normalisation, by default with ReLU6: [B, C, H, W] -> [B, C', ⌈H/s⌉, ⌈W/s⌉]."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(width, EPSILON)
        self.activation = nn.Identity() if linear else nn.ReLU6(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        if self.stride > 1:
            (top, bottom), (left, right) = (self._padding(side) for side in maps.shape[2:])
            maps = F.pad(maps, (left, right, top, bottom))
        activations: Tensor = self.activation(self.norm(self.conv(maps)))
        return activations

    def _padding(self, side: int) -> tuple[int, int]:
        """Returns the padding before and after a side, as TensorFlow's "SAME": the larger part after it."""
        total = max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0)
        return total // 2, total - total // 2


class InvertedBottleneck(nn.Module):
    """Expansion, depthwise convolution, projection; the input is added if the shapes agree."""

    def __init__(self, channels: int, expansion: int, kernel: int, stride: int, width: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = nn.Identity() if expansion == 1 else Convolution(channels, inner)
        self.depthwise = Convolution(inner, inner, kernel, stride, groups=inner)
        self.project = Convolution(inner, width, linear=True)
        self.residual = stride == 1 and channels == width

    def forward(self, maps: Tensor) -> Tensor:
        changed: Tensor = self.project(self.depthwise(self.expand(maps)))
        return maps + changed if self.residual else changed


class Features(nn.Module):
    """Feature extractor: [B, 3, H, W] -> [B, 1280, ⌈H/32⌉, ⌈W/32⌉]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, STEM, kernel=3, stride=2)
        channels, blocks = STEM, []
        for expansion, kernel, stride, width, count in STAGES:
            for index in range(count):
                step = stride if index == 0 else 1
                blocks.append(InvertedBottleneck(channels, expansion, kernel, step, width))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = Convolution(channels, HEAD)

    def forward(self, image: Tensor) -> Tensor:
        maps: Tensor = self.head(self.blocks(self.stem(image)))
        return maps


class EfficientNetLite0(nn.Module):
    """Image classifier: [B, C, H, W], scaled as (pixel - 127) / 128 -> logits [B, K]; C is 1 or 3."""

    def __init__(self, config: EfficientNetLite0Config, channels: int, classes: int) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ValueError(f"EfficientNet-Lite0 takes images of 1 or 3 channels, not {channels}")
        if config.size < 1:
            raise ValueError(f"the side that images are resized to must be at least 1, not {config.size}")
        self.config = config
        self.features = Features()
        self.classifier = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(HEAD, classes))

    def forward(self, image: Tensor) -> Tensor:
        size = (self.config.size, self.config.size)
        if image.shape[2:] != size:
            image = F.interpolate(image, size, mode="bilinear", align_corners=False)
        if image.shape[1] == 1:
            image = image.expand(-1, 3, -1, -1)  # [B, 1, H, W] -> [B, 3, H, W]
        pooled = self.features(image).mean(dim=(2, 3))  # [B, 1280, H/32, W/32] -> [B, 1280]
        logits: Tensor = self.classifier(pooled)
        return logits
