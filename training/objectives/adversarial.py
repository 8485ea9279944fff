"""Adversarial training: a generator and a discriminator, each with its own loss and optimiser.

Sources: Goodfellow et al. (2014), "Generative Adversarial Networks", arXiv:1406.2661 (the non-saturating
loss); Salimans et al. (2016), "Improved Techniques for Training GANs", arXiv:1606.03498 (one-sided label
smoothing); Lim & Ye (2017), "Geometric GAN", arXiv:1705.02894 (hinge); Arjovsky et al. (2017), "Wasserstein
GAN", arXiv:1701.07875; Gulrajani et al. (2017), "Improved Training of Wasserstein GANs", arXiv:1704.00028
(gradient penalty); Yazıcı et al. (2019), "The Unusual Effectiveness of Averaging in GAN Training",
arXiv:1806.04498 (the generator that is exported is a moving average of the one that is trained).

Shape legend: B batch, Z latent size, K classes, H height, W width, C channels.
"""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from training.objectives.base import Exhibits, Objective, Tensors, exportable
from training.optimizer import Optimizer
from zoo.errors import ZooError
from zoo.layers.scaling import PixelScaling
from zoo.models.gan import GAN, Generator
from zoo.tasks.image_generation import ImageGeneration

EXHIBITED = 8  # images of each class
# Thresholds for signs of failure, far from the values of a healthy run after the beginning.
SETTLING = 0.25  # share of the run at its start, when all images are alike and easily told from real ones
COLLAPSED = 0.1  # share of the real images' variety
UNABLE = 0.51  # share of pairs told apart: chance level plus the epoch's sampling error
BEATEN = 0.05  # the discriminator's loss; at chance level it is 2 ln 2, or 2 with hinge
VANISHED = 1e-4  # norm of the generator's gradient, which is normally about 1
MID_LEVEL = 127.5  # scales uint8 intensities to (-1, 1), the range of the generator


@dataclass(frozen=True)
class Game:
    """Loss and update rule of the two networks."""

    loss: Literal["non-saturating", "hinge", "wasserstein"] = "non-saturating"
    """Kind of loss: Goodfellow's, whose gradient is strong while the generator loses; hinge; or WGAN-GP."""
    label_smoothing: float = 0.0
    """Difference between 1 and the discriminator's target for real images (non-saturating)."""
    gradient_penalty: float = 10.0
    """Weight of the penalty on slopes other than 1 (wasserstein)."""
    discriminator_updates: int = 1
    """Discriminator updates per update of the generator; each uses its part of the batch."""
    averaging: float = 0.999
    """Decay of the moving average that is exported: its share of the old weights in each step."""

    def __post_init__(self) -> None:
        if self.label_smoothing and self.loss != "non-saturating":
            raise ZooError(f"the {self.loss} loss has no labels to smooth: leave label_smoothing at 0")
        if not 0 <= self.label_smoothing < 1 or not 0 <= self.averaging < 1:
            raise ZooError("label_smoothing and averaging must be at least 0 and below 1")
        if self.discriminator_updates < 1 or self.gradient_penalty < 0:
            raise ZooError("discriminator_updates must be at least 1, gradient_penalty at least 0")


def discriminator_loss(game: Game, real: Tensor, fake: Tensor) -> Tensor:
    """Returns the mean loss for scores [B] of real and [B] of generated images, without the penalty."""
    match game.loss:
        case "non-saturating":  # cross-entropy of the score as a logit, in nats
            target = torch.full_like(real, 1 - game.label_smoothing)
            return F.binary_cross_entropy_with_logits(real, target) + F.softplus(fake).mean()
        case "hinge":
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        case "wasserstein":
            return fake.mean() - real.mean()


def generator_loss(game: Game, fake: Tensor) -> Tensor:
    """Returns the generator's mean loss for the scores [B] of its images."""
    return F.softplus(-fake).mean() if game.loss == "non-saturating" else -fake.mean()


def slope_penalty(
    discriminator: nn.Module, real: Tensor, fake: Tensor, label: Tensor, share: Tensor
) -> Tensor:
    """Returns the mean of (|∇ₓ D(x)| - 1)² at points x between real and generated images [B, C, H, W].

    `share` [B] is the weight of the real image in each point.
    """
    between = torch.lerp(fake, real, share[:, None, None, None]).requires_grad_()
    scores = discriminator(between, label).sum()
    (gradient,) = torch.autograd.grad(scores, between, create_graph=True)
    penalty: Tensor = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


def variety(images: Tensor, label: Tensor, classes: int) -> Tensor:
    """Returns for each class [K] the mean squared distance of its images, of [B, ...], from their mean.

    It is 0 if all images of a class are equal, or if the batch has fewer than two of the class.
    """
    flat = images.flatten(1)
    member = F.one_hot(label, classes).to(flat.dtype)  # [B, K]
    count = member.sum(dim=0).clamp(min=1)
    means = (member.T @ flat) / count[:, None]
    distance = (flat - means[label]).square().sum(dim=1)  # [B]
    return (member.T @ distance) / count


def failure_signs(game: Game, means: dict[str, float]) -> list[str]:
    """Returns signs of mode collapse and of a dead discriminator in an epoch's means, as texts."""
    collapsed, least = means["variety"], means["least_variety"]
    apart, slope = means["told_apart"], means["generator_gradient"]
    beaten = game.loss != "wasserstein" and means["discriminator_loss"] < BEATEN  # a distance has no floor
    signs = {
        f"mode collapse: generated images vary {collapsed:.2f} times as much as real ones": (
            collapsed < COLLAPSED
        ),
        f"mode collapse: of one class they vary {least:.2f} times as much": least < COLLAPSED <= collapsed,
        f"dead discriminator: it scores {apart:.0%} of the real images above generated ones": apart < UNABLE,
        f"dead discriminator: at a loss of {means['discriminator_loss']:.3f} there is nothing to win": beaten,
        f"dead discriminator: the generator's gradient is {slope:.1e}": slope < VANISHED,
    }
    return [sign for sign, seen in signs.items() if seen]


class Intensities(nn.Module):
    """Module for the ONNX graph: latent [B, Z] and class [B] -> intensities [B, H, W, C] from 0 to 1."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        image: Tensor = self.generator(latent, label)
        return (image.permute(0, 2, 3, 1) + 1) / 2  # [B, C, H, W] -> [B, H, W, C]


class Adversarial(Objective):
    """One step updates the discriminator, once or several times, and then the generator.

    Generated images have the classes of the real ones in the batch.
    """

    def __init__(
        self,
        model: GAN,
        task: ImageGeneration,
        game: Game,
        rules: tuple[Optimizer, Optimizer],
        fabric: Fabric,
        steps: int,
    ) -> None:
        """Takes the optimisers of the generator and the discriminator as `rules`."""
        if game.loss == "wasserstein" and model.config.normalisation == "batch":
            raise ZooError(
                "the gradient penalty is of each image by itself, which normalised batches do not allow: "
                "choose --model.normalisation none"
            )
        model = model.to(memory_format=torch.channels_last)
        optimizers, schedules = zip(
            *(r.build(m, steps) for r, m in zip(rules, (model.generator, model.discriminator), strict=True)),
            strict=True,
        )
        self.generate, first = fabric.setup(model.generator, optimizers[0])
        self.discriminate, second = fabric.setup(model.discriminator, optimizers[1])
        self.model = model
        self.average = copy.deepcopy(model.generator).requires_grad_(False)
        self.scaling = PixelScaling((MID_LEVEL,) * task.channels, (MID_LEVEL,) * task.channels)
        self.scaling.to(fabric.device)
        self.game, self.task, self.fabric, self.steps = game, task, fabric, steps
        network = nn.ModuleDict({"model": model, "average": self.average})
        super().__init__(network, (first, second), schedules)

    def step(self, batch: Tensors) -> Tensors:
        images, labels = self.scaling(batch["image"]), batch["target"]
        updates = self.game.discriminator_updates
        for real, label in zip(images.chunk(updates), labels.chunk(updates), strict=True):
            fake = self.generate(self._latents(len(label)), label)
            measured = self._update_discriminator(real, fake.detach(), label)
        measured |= self._update_generator(fake, label)
        measured |= self._variety(real, fake.detach(), label)
        self._update_average()
        for schedule in self.schedules:
            schedule.step()
        return measured

    def validate(self, batch: Tensors) -> Tensors:
        real, label = self.scaling(batch["image"]), batch["target"]
        fake = self.average(self._latents(len(label), seed=0), label)
        scores = self.discriminate(real, label), self.discriminate(fake, label)
        return {
            "loss": discriminator_loss(self.game, *scores),
            **_compared(*scores),
            **self._variety(real, fake, label),
        }

    def failure_signs(self, means: dict[str, float]) -> list[str]:
        settled = self.schedules[0].last_epoch >= SETTLING * self.steps
        return failure_signs(self.game, means) if settled else []

    def export_module(self) -> nn.Module:
        return exportable(Intensities(self.average))

    @torch.no_grad()
    def exhibits(self) -> Exhibits:
        """Returns samples, one row per class and one column per latent vector; the latents never change."""
        classes = len(self.task.labels)
        latents = self._latents(EXHIBITED, seed=0).repeat(classes, 1)  # [K · columns, Z]
        labels = torch.arange(classes, device=latents.device).repeat_interleave(EXHIBITED)
        self.average.eval()
        intensities = Intensities(self.average)(latents, labels)
        levels = (255 * intensities).round().to(torch.uint8).cpu()
        return {"samples": levels.unflatten(0, (classes, EXHIBITED)).numpy()}

    def _update_discriminator(self, real: Tensor, fake: Tensor, label: Tensor) -> Tensors:
        scores = self.discriminate(real, label), self.discriminate(fake, label)
        loss = objective = discriminator_loss(self.game, *scores)
        if self.game.loss == "wasserstein":
            share = torch.rand(len(label), device=real.device)
            penalty = slope_penalty(self.model.discriminator, real, fake, label, share)
            objective = loss + self.game.gradient_penalty * penalty
        self._descend(1, objective)
        loss = loss.detach()
        return {"loss": loss, "discriminator_loss": loss, **_compared(*(s.detach() for s in scores))}

    def _update_generator(self, fake: Tensor, label: Tensor) -> Tensors:
        # Not Fabric's wrapper: the discriminator gets no gradients here, so devices must not sum them.
        self.model.discriminator.requires_grad_(False)
        with self.fabric.autocast():
            score = self.model.discriminator(fake, label)
        loss = generator_loss(self.game, score.to(fake.dtype))
        self._descend(0, loss)
        self.model.discriminator.requires_grad_(True)
        gradients = [p.grad for p in self.model.generator.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        return {"generator_loss": loss.detach(), "generator_gradient": norm}

    def _descend(self, which: int, loss: Tensor) -> None:
        self.optimizers[which].zero_grad()
        self.fabric.backward(loss)
        self.optimizers[which].step()

    @torch.no_grad()
    def _update_average(self) -> None:
        step = self.schedules[0].last_epoch
        keep = min(self.game.averaging, (1 + step) / (10 + step))  # small at first, to forget the start
        new = self.model.generator.state_dict()
        for name, tensor in self.average.state_dict().items():
            if tensor.is_floating_point():  # not the counters of batch normalisation
                tensor.lerp_(new[name], 1 - keep)

    def _latents(self, count: int, seed: int | None = None) -> Tensor:
        """Draws standard normal latents [count, Z]; with a seed, always the same."""
        device = self.fabric.device
        random = None if seed is None else torch.Generator(device).manual_seed(seed)
        return torch.randn(count, self.task.latent_size, device=device, generator=random)

    def _variety(self, real: Tensor, fake: Tensor, label: Tensor) -> Tensors:
        """Returns the variety of generated images relative to real ones: mean and minimum over classes."""
        ours, theirs = (variety(images, label, len(self.task.labels)) for images in (fake, real))
        shares = torch.where(theirs > 0, ours / theirs, torch.nan)  # undefined for a single image
        return {
            "variety": shares.nanmean().nan_to_num(1.0),
            "least_variety": shares.nan_to_num(1.0).min(),
        }


def _compared(real: Tensor, fake: Tensor) -> Tensors:
    """Returns mean scores, and the share of real images that score above a generated one of their class."""
    return {
        "real_score": real.mean(),
        "fake_score": fake.mean(),
        "told_apart": (real > fake).float().mean(),
    }
