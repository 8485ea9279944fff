"""A conditional deep convolutional generative adversarial network.

A generator turns random numbers and a class into an image; a discriminator scores how real an image of
the given class looks. Each is trained against the other.

Source: Goodfellow et al. (2014), "Generative Adversarial Networks", arXiv:1406.2661; Radford, Metz &
Chintala (2016), "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks", arXiv:1511.06434: strided and transposed convolutions of 4x4 instead of pooling, batch
normalisation, ReLU in the generator, LeakyReLU in the discriminator, weights drawn from N(0, 0.02²);
Mirza & Osindero (2014), "Conditional Generative Adversarial Nets", arXiv:1411.1784.

Deviations: two scales instead of four, because the images have a side of 28 or 32 pixels, not 64. The
discriminator gets the class by projection, which made it a good judge of classes: Miyato & Koyama (2018),
"cGANs with Projection Discriminator", arXiv:1802.05637, here on the whole last map instead of its sum.
`normalisation="spectral"` is Miyato et al. (2018), "Spectral Normalization for Generative Adversarial
Networks", arXiv:1802.05957; the gradient penalty of WGAN-GP needs `"none"`.

Shape legend: B batch, Z latent size, K classes, C channels, H W height and width, M maps.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SCALES = 2  # halvings of the image's side in the discriminator, and doublings in the generator
INITIAL_STD = 0.02
LEAK = 0.2


@dataclass(frozen=True)
class GANConfig:
    """Sizes of the GAN, and the normalisation of its discriminator."""

    latent_size: int = 64
    """Number of random numbers that an image is generated from."""
    width: int = 64
    """Feature maps in the layers nearest to the image; the deeper layers have twice as many."""
    normalisation: Literal["batch", "spectral", "none"] = "batch"
    """Normalisation in the discriminator: of each batch, of each layer's weights, or none."""


class Generator(nn.Module):
    """Generator: latent [B, Z] and class [B] -> image [B, C, H, W] in (-1, 1)."""

    def __init__(self, config: GANConfig, channels: int, size: int, classes: int) -> None:
        super().__init__()
        self.deep, self.side = 2 * config.width, size // 2**SCALES
        # Together an affine map of the latent concatenated with the one-hot class, as in Mirza & Osindero.
        self.project = nn.Linear(config.latent_size, self.deep * self.side**2, bias=False)
        self.place = nn.Embedding(classes, self.deep * self.side**2)
        self.grow = nn.Sequential(
            nn.BatchNorm2d(self.deep),
            nn.ReLU(),
            nn.ConvTranspose2d(self.deep, config.width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(config.width),
            nn.ReLU(),
            nn.ConvTranspose2d(config.width, channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )
        self.apply(_initialize)

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        seed = self.project(latent) + self.place(label)
        image: Tensor = self.grow(seed.unflatten(1, (self.deep, self.side, self.side)))  # [B, M, H/4, W/4]
        return image


class Discriminator(nn.Module):
    """Discriminator: image [B, C, H, W] in (-1, 1) and class [B] -> score [B], larger for real images."""

    def __init__(self, config: GANConfig, channels: int, size: int, classes: int) -> None:
        super().__init__()
        deep, side = 2 * config.width, size // 2**SCALES
        self.shrink = nn.Sequential(
            nn.Conv2d(channels, config.width, 4, stride=2, padding=1),  # [B, M, H/2, W/2]
            nn.LeakyReLU(LEAK),
            nn.Conv2d(config.width, deep, 4, stride=2, padding=1),  # [B, 2M, H/4, W/4]
            # Real and generated images have different means: running statistics of both would fit neither.
            nn.BatchNorm2d(deep, track_running_stats=False)
            if config.normalisation == "batch"
            else nn.Identity(),
            nn.LeakyReLU(LEAK),
            nn.Flatten(),
        )
        self.score = nn.Linear(deep * side**2, 1)
        self.prototype = nn.Embedding(classes, deep * side**2)
        self.apply(_initialize)
        if config.normalisation == "spectral":
            for layer in (self.shrink[0], self.shrink[2], self.score, self.prototype):
                spectral_norm(layer)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        seen = self.shrink(image)  # [B, 2M · H/4 · W/4]
        score: Tensor = self.score(seen).squeeze(1) + (self.prototype(label) * seen).sum(dim=1)
        return score


class GAN(nn.Module):
    """Both networks: latent [B, Z] and class [B] -> the discriminator's score [B] of the generated images."""

    def __init__(self, config: GANConfig, channels: int, size: int, classes: int) -> None:
        super().__init__()
        if size % 2**SCALES:
            raise ValueError(f"the GAN makes images whose side is a multiple of {2**SCALES}, not {size}")
        self.config = config
        self.generator = Generator(config, channels, size, classes)
        self.discriminator = Discriminator(config, channels, size, classes)

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        score: Tensor = self.discriminator(self.generator(latent, label), label)
        return score


@torch.no_grad()
def _initialize(module: nn.Module) -> None:
    """Draws weights from N(0, 0.02²) and batch normalisation's scales from N(1, 0.02²); sets biases to 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, 0, INITIAL_STD)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, INITIAL_STD)
    if isinstance(bias := getattr(module, "bias", None), Tensor):
        nn.init.zeros_(bias)
