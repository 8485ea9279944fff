"""Fitted scaling as part of the network, so that a graph takes and returns natural units.

Mean and standard deviation are buffers, not parameters: fitted on the training split and never trained.

Shape legend: B batch, F features, C channels, H height, W width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FeatureScaling(nn.Module):
    """Standardises each feature: [..., F] in natural units -> [..., F] with mean 0 and variance 1."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.std


class PixelScaling(nn.Module):
    """Standardises each channel: [B, H, W, C] of 0 to 255 -> float [B, C, H, W]."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        """Takes the memory format of the result; in most networks, channels last is faster."""
        super().__init__()
        self.memory_format = memory_format
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])  # [C, 1, 1]
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, image: Tensor) -> Tensor:
        pixels = image.permute(0, 3, 1, 2).to(self.mean.dtype)  # [B, H, W, C] -> [B, C, H, W]
        return ((pixels - self.mean) / self.std).to(memory_format=self.memory_format)


class ValueUnscaling(nn.Module):
    """Undoes standardisation: [B] or [..., V], standardised -> the same shape in natural units."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, scaled: Tensor) -> Tensor:
        return scaled * self.std + self.mean
