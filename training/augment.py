"""Augmentation: random changes of the training images, drawn anew for every batch.

Each image of a batch gets its own random values, and a batch is processed as one tensor, never image by
image; all geometric changes of a batch are one resampling. Random values come from torch's global generator,
which the loop seeds for every epoch, so runs are reproducible, resumed ones too. The network sees each image
in many forms, so memorizing the images helps it less.

Sources: Krizhevsky, Sutskever & Hinton (2012), doi:10.1145/3065386 (crops, flips, colour); Zhong et al.
(2017), "Random Erasing Data Augmentation", arXiv:1708.04896; Zhang et al. (2017), "mixup: Beyond Empirical
Risk Minimization", arXiv:1710.09412.

Shape legend: B batch, H height, W width, C channels.
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from zoo.errors import ZooError

WHITE = 255.0


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image; all are off by default."""

    rotate: float = 0.0
    """Largest rotation in degrees, either way."""
    scale: float = 0.0
    """Largest change of size: 0.2 draws factors from 0.8 to 1.2."""
    flip: bool = False
    """Mirrors images left to right, with probability 0.5."""
    crop: int = 0
    """Largest shift in pixels, either way: a random crop of the image after padding it by this width."""
    colour: float = 0.0
    """Largest change of brightness, contrast and saturation: 0.2 draws factors from 0.8 to 1.2."""
    erase: float = 0.0
    """Probability that a rectangle of a tenth to a third of the image is covered by noise."""
    mixup: float = 0.0
    """Parameter of the Beta distribution from which the share of a second image is drawn."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ZooError(f"{field.name} must not be negative")
        if self.scale >= 1 or self.erase > 1:
            raise ZooError("scale must be below 1, and erase, a probability, at most 1")

    def images(self, images: Tensor) -> Tensor:
        """Applies all changes but mixup: uint8 [B, H, W, C] -> uint8 or float [B, H, W, C] from 0 to 255."""
        if self.rotate or self.scale:
            images = warp(images, self.rotate, self.scale, self.flip, self.crop)
        elif self.flip or self.crop:
            images = shift(images, self.flip, self.crop)
        if self.colour:
            images = recolour(images, self.colour)
        if self.erase:
            images = erase(images, self.erase)
        return images

    def parts(self) -> dict[str, "Augmentation"]:
        """Returns an augmentation for each change that is on, by its name, with the other changes off."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: replace(Augmentation(), **{name: value}) for name, value in values.items() if value}

    def views(self, images: Tensor) -> Tensor:
        """Returns images as a network in training sees them, mixup included: uint8 [B, H, W, C] -> uint8."""
        changed = self.images(images)
        if self.mixup:
            changed, _, _ = mix(changed, self.mixup)
        return changed.clamp(0, WHITE).to(torch.uint8)


def shift(images: Tensor, flip: bool, crop: int) -> Tensor:
    """Shifts each image [B, H, W, C] by whole pixels and mirrors it at random; uncovered pixels are black."""
    batch, height, width, _ = images.shape
    device = images.device
    padded = F.pad(images, (0, 0, crop, crop, crop, crop))
    top, left = torch.randint(0, 2 * crop + 1, (2, batch, 1), device=device)
    rows = top + torch.arange(height, device=device)  # [B, H]
    columns = torch.arange(width, device=device).expand(batch, width)
    if flip:
        mirrored = torch.rand(batch, 1, device=device) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    columns = left + columns  # [B, W]
    which = torch.arange(batch, device=device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]]


def warp(images: Tensor, rotate: float, scale: float, flip: bool, crop: int) -> Tensor:
    """Rotates, scales, mirrors and shifts each image [B, H, W, C] in one bilinear resampling."""
    batch, height, width, _ = images.shape

    def draw(limit: float) -> Tensor:  # [B], uniform in [-limit, limit]
        return (2 * torch.rand(batch, device=images.device) - 1) * limit

    angle, zoom = draw(math.radians(rotate)), 1 / (1 + draw(scale))
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    mirror = 1 - 2 * (draw(1) < 0).float() if flip else torch.ones_like(angle)
    # Rows of the map from coordinates in the result to coordinates in the image, both from -1 to 1.
    x = torch.stack([mirror * cosine, -sine * height / width, draw(2 * crop / width)], dim=1)
    y = torch.stack([mirror * sine * width / height, cosine, draw(2 * crop / height)], dim=1)
    grid = F.affine_grid(
        torch.stack([x, y], dim=1), [batch, 1, height, width], align_corners=False
    )  # [B, H, W, 2]
    moved = images.permute(0, 3, 1, 2).float()  # [B, H, W, C] -> [B, C, H, W]
    return F.grid_sample(moved, grid, align_corners=False).permute(0, 2, 3, 1)


def recolour(images: Tensor, strength: float) -> Tensor:
    """Scales brightness, contrast and, of colour images, saturation of each image [B, H, W, C] at random."""
    batch = len(images)
    brightness, contrast, saturation = 1 + strength * (
        2 * torch.rand(3, batch, 1, 1, 1, device=images.device) - 1
    )
    changed: Tensor = images.float() * brightness
    mean = changed.mean(dim=(1, 2, 3), keepdim=True)
    changed = mean + contrast * (changed - mean)
    if images.shape[3] > 1:
        grey = changed.mean(dim=3, keepdim=True)
        changed = grey + saturation * (changed - grey)
    return changed.clamp_(0, WHITE)


def erase(images: Tensor, probability: float) -> Tensor:
    """Covers one rectangle of each randomly chosen image [B, H, W, C] with noise."""
    batch, height, width, _ = images.shape
    device = images.device
    share = 0.1 + (1 / 3 - 0.1) * torch.rand(batch, 1, device=device)
    aspect = torch.exp(math.log(3) * (2 * torch.rand(batch, 1, device=device) - 1))  # 1/3 to 3
    chosen = torch.rand(batch, 1, device=device) < probability
    covered_rows = _interval(height, (share * aspect).sqrt().clamp(max=1), device)
    covered_columns = _interval(width, (share / aspect).sqrt().clamp(max=1), device)
    covered = (chosen & covered_rows)[:, :, None, None] & covered_columns[:, None, :, None]
    noise = torch.rand(images.shape, device=device) * WHITE
    return torch.where(covered, noise, images.float())


def _interval(size: int, share: Tensor, device: torch.device) -> Tensor:
    """Draws an interval for each share [B, 1] of `size` positions; bool [B, size], True inside it."""
    length = share * size
    start = torch.rand(len(share), 1, device=device) * (size - length)
    place = torch.arange(size, device=device) + 0.5
    return (place >= start) & (place < start + length)


def mix(images: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Mixes a batch [B, H, W, C] with itself in random order; returns images, order [B] and own share."""
    # Drawn from torch's generator, like all random values here.
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(images), device=images.device)
    own = images.float()
    return share * own + (1 - share) * own[order], order, share
