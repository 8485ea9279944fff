"""Adversarial losses by hand, one step of two optimisers, and the signs that one of them has failed."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from training import pipeline
from training.loop import Points, Progress
from training.objectives.adversarial import (
    Adversarial,
    Game,
    discriminator_loss,
    failure_signs,
    generator_loss,
    slope_penalty,
    variety,
)
from training.optimizer import Optimizer
from training.recipes import recipe_for
from training.recipes.gan import GANRecipe
from zoo.errors import ZooError
from zoo.models.gan import GAN, GANConfig
from zoo.tasks.image_generation import ImageGeneration

TASK = ImageGeneration(height=28, width=28, channels=1, labels=("a", "b", "c"), latent_size=5)
STILL = Optimizer("sgd", 0.0)
MOVING = Optimizer("sgd", 0.01)
WASSERSTEIN = Game("wasserstein")


def batch(rows: int = 12) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (rows, 28, 28, 1), dtype=torch.uint8, generator=random)
    return {"image": images, "target": torch.arange(rows) % 3}


def objective(
    game: Game | None = None, generator: Optimizer = MOVING, discriminator: Optimizer = MOVING, steps: int = 4
) -> Adversarial:
    torch.manual_seed(0)
    game = game or Game()
    normalisation = "none" if game.loss == "wasserstein" else "batch"
    model = GAN(GANConfig(5, 2, normalisation), 1, 28, 3)
    fabric = Fabric(accelerator="cpu")
    trained = Adversarial(model, TASK, game, (generator, discriminator), fabric, steps)
    trained.network.train()
    return trained


def floats(scalars: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in scalars.items()}


# Losses


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


def test_a_discriminator_that_knows_nothing_loses_two_bits() -> None:
    nothing = torch.zeros(4)
    assert discriminator_loss(Game(), nothing, nothing).item() == pytest.approx(2 * math.log(2))
    assert generator_loss(Game(), nothing).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_non_saturating_loss_is_the_cross_entropy(smoothing: float) -> None:
    real, fake = [1.5, -0.5], [-2.0, 0.3]
    of_real = [-(1 - smoothing) * math.log(sigmoid(s)) - smoothing * math.log(1 - sigmoid(s)) for s in real]
    of_fake = [-math.log(1 - sigmoid(s)) for s in fake]
    got = discriminator_loss(Game(label_smoothing=smoothing), torch.tensor(real), torch.tensor(fake))
    assert got.item() == pytest.approx((sum(of_real) + sum(of_fake)) / 2)
    fooled = -sum(math.log(sigmoid(s)) for s in fake) / 2
    assert generator_loss(Game(), torch.tensor(fake)).item() == pytest.approx(fooled)


def test_hinge_loss_counts_what_is_on_the_wrong_side_of_the_margin() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert discriminator_loss(Game("hinge"), real, fake).item() == pytest.approx(0.5 / 2 + 1 / 2)
    assert generator_loss(Game("hinge"), fake).item() == pytest.approx(1.5)


def test_wasserstein_loss_is_the_difference_of_the_means() -> None:
    real, fake = torch.tensor([2.0, 4.0]), torch.tensor([1.0, -2.0])
    assert discriminator_loss(WASSERSTEIN, real, fake).item() == pytest.approx(-0.5 - 3)
    assert generator_loss(WASSERSTEIN, fake).item() == pytest.approx(0.5)


def linear_critic(weights: Tensor) -> Any:
    return lambda images, label: images.flatten(1) @ weights


@pytest.mark.parametrize("length", [0.5, 1.0, 3.0])
def test_penalty_of_a_linear_critic(length: float) -> None:
    """Its slope is |w| everywhere: the penalty is (|w| - 1)², and pulls w towards length 1."""
    torch.manual_seed(0)
    weights = nn.functional.normalize(torch.randn(4), dim=0).mul(length).requires_grad_()
    real, fake = torch.randn(6, 1, 2, 2), torch.randn(6, 1, 2, 2)
    penalty = slope_penalty(linear_critic(weights), real, fake, torch.zeros(6), torch.rand(6))
    assert penalty.item() == pytest.approx((length - 1) ** 2, abs=1e-6)
    penalty.backward()
    torch.testing.assert_close(weights.grad, 2 * (length - 1) * weights.detach() / length, atol=1e-5, rtol=0)


def test_penalty_is_taken_between_real_and_generated_images() -> None:
    """D(x) = |x|² / 2 has the slope |x|."""
    real, fake = torch.full((3, 1, 2, 2), 2.0), torch.zeros(3, 1, 2, 2)
    share = torch.tensor([0.0, 0.25, 1.0])
    penalty = slope_penalty(
        lambda images, label: images.square().flatten(1).sum(dim=1) / 2, real, fake, torch.zeros(3), share
    )
    assert penalty.item() == pytest.approx((1 + 0 + 9) / 3)  # |x| is 0, 1 and 4


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Game("hinge", label_smoothing=0.1),
        lambda: Game(label_smoothing=1.0),
        lambda: Game(averaging=1.0),
        lambda: Game(discriminator_updates=0),
        lambda: Game(gradient_penalty=-1.0),
    ],
)
def test_settings_without_sense_are_refused(wrong: Callable[[], Game]) -> None:
    with pytest.raises(ZooError):
        wrong()


def test_penalty_and_batch_normalisation_exclude_each_other() -> None:
    model = GAN(GANConfig(5, 2, "batch"), 1, 28, 3)
    with pytest.raises(ZooError, match="the gradient penalty is of each image by itself"):
        Adversarial(model, TASK, WASSERSTEIN, (MOVING, MOVING), Fabric(accelerator="cpu"), 4)


# A step


@pytest.mark.parametrize("loss", ["non-saturating", "hinge", "wasserstein"])
def test_a_step_measures_both_sides(loss: Any) -> None:
    measured = floats(objective(Game(loss)).step(batch()))
    assert set(measured) == {
        "loss", "discriminator_loss", "generator_loss", "generator_gradient", "real_score", "fake_score",
        "told_apart", "variety", "least_variety",
    }  # fmt: skip
    assert all(math.isfinite(value) for value in measured.values())
    assert measured["loss"] == measured["discriminator_loss"]
    assert measured["generator_gradient"] > 0


@pytest.mark.parametrize("loss", ["non-saturating", "hinge", "wasserstein"])
@pytest.mark.parametrize("moving", ["generator", "discriminator"])
def test_each_optimiser_moves_its_own_network(loss: Any, moving: str) -> None:
    rules = {"generator": STILL, "discriminator": STILL, moving: MOVING}
    trained = objective(Game(loss), **rules)
    before = {name: p.clone() for name, p in trained.model.named_parameters()}
    trained.step(batch())
    moved = {name for name, p in trained.model.named_parameters() if not torch.equal(p, before[name])}
    assert {name.partition(".")[0] for name in moved} == {moving}


def test_the_discriminator_learns_nothing_from_the_generators_loss() -> None:
    trained = objective(discriminator=STILL)
    gradients: list[list[Tensor]] = []

    def record(*_: object) -> None:
        gradients.append([p.grad.clone() for p in trained.model.discriminator.parameters()])  # type: ignore[union-attr]

    trained.optimizers[1].register_step_post_hook(record)
    trained.step(batch())
    after = [p.grad for p in trained.model.discriminator.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(after, gradients[0], strict=True))
    assert all(p.requires_grad for p in trained.model.discriminator.parameters())


def test_the_discriminator_may_have_several_updates_each_on_its_part_of_the_batch() -> None:
    trained = objective(Game(discriminator_updates=3))
    steps = {0: 0, 1: 0}
    seen: list[int] = []
    for which in steps:

        def count(*_: object, which: int = which) -> None:
            steps[which] += 1

        trained.optimizers[which].register_step_post_hook(count)
    trained.model.discriminator.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    trained.step(batch(12))
    assert steps == {0: 1, 1: 3}
    assert seen == [4] * 7  # real and generated, three times, and the generator's update


def test_the_discriminator_learns_to_tell_apart() -> None:
    trained = objective(Game(), STILL, Optimizer("adam", 1e-3), steps=30)
    told = [floats(trained.step(batch()))["told_apart"] for _ in range(30)]
    assert told[-1] == 1 > told[0]


def test_the_generator_learns_to_be_taken_for_real() -> None:
    trained = objective(Game(), Optimizer("adam", 1e-3), STILL, steps=30)
    scores = [floats(trained.step(batch()))["fake_score"] for _ in range(30)]
    assert scores[-1] > scores[0]


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "normalisation"), [
    ("non-saturating", "batch"), ("hinge", "spectral"), ("wasserstein", "none"),
])  # fmt: skip
def test_each_game_is_learnt(loss: Any, normalisation: Any) -> None:
    """Images of the first class are black, those of the second white."""
    torch.manual_seed(0)
    task = ImageGeneration(height=8, width=8, channels=1, labels=("black", "white"), latent_size=4)
    label = torch.arange(16) % 2
    image = (255 * label).to(torch.uint8)[:, None, None, None].expand(16, 8, 8, 1)
    model = GAN(GANConfig(4, 4, normalisation), 1, 8, 2)
    rule = Optimizer("adam", 1e-2, betas=(0.5, 0.999))
    trained = Adversarial(
        model, task, Game(loss, averaging=0.9), (rule, rule), Fabric(accelerator="cpu"), 180
    )
    trained.network.train()
    for _ in range(180):
        trained.step({"image": image, "target": label})
    black, white = trained.exhibits()["samples"].mean(axis=(1, 2, 3, 4)) / 255
    assert black < 0.2
    assert white > 0.8


# The exported generator


def test_what_is_exported_is_the_moving_average() -> None:
    trained = objective(Game(averaging=0.5))
    before = {name: p.clone() for name, p in trained.average.named_parameters()}
    for _ in range(12):  # past the first steps, in which less is kept
        before = {name: p.clone() for name, p in trained.average.named_parameters()}
        trained.step(batch())
    new = dict(trained.model.generator.named_parameters())
    exported = dict(trained.export_module().generator.named_parameters())  # type: ignore[union-attr, operator]
    for name, parameter in exported.items():
        torch.testing.assert_close(parameter, (before[name] + new[name]) / 2)
    assert not torch.equal(exported["project.weight"], new["project.weight"])


def test_without_averaging_the_trained_generator_is_exported() -> None:
    trained = objective(Game(averaging=0.0))
    trained.step(batch())
    new, exported = trained.model.generator.state_dict(), trained.export_module().generator.state_dict()  # type: ignore[union-attr, operator]
    floating = [name for name, tensor in new.items() if tensor.is_floating_point()]
    assert len(floating) > 8
    assert all(torch.equal(new[name], exported[name]) for name in floating)


def test_images_are_intensities_with_channels_last() -> None:
    trained = objective()
    module = trained.export_module()
    images = module(torch.randn(2, 5), torch.tensor([0, 2]))
    assert images.shape == (2, 28, 28, 1)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    made = trained.average.eval()(torch.ones(1, 5), torch.tensor([1]))  # [1, C, H, W] in (-1, 1)
    torch.testing.assert_close(module(torch.ones(1, 5), torch.tensor([1]))[0, ..., 0], (made[0, 0] + 1) / 2)


def test_exhibits_are_the_same_latents_for_each_class() -> None:
    trained = objective()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    images = trained.exhibits()["samples"]
    assert torch.rand(1) == expected, "looking at samples changes the training"
    assert images.shape == (3, 8, 28, 28, 1)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, trained.exhibits()["samples"])
    assert not np.array_equal(images[0], images[1])
    trained.step(batch())
    assert not np.array_equal(images, trained.exhibits()["samples"])


def test_validation_compares_held_out_images_with_generated_ones() -> None:
    trained = objective()
    trained.network.eval()
    with torch.no_grad():
        once, again = floats(trained.validate(batch())), floats(trained.validate(batch()))
    assert once == again
    assert set(once) == {"loss", "real_score", "fake_score", "told_apart", "variety", "least_variety"}


# Signs of failure

HEALTHY = {
    "loss": 0.9, "discriminator_loss": 0.9, "generator_loss": 1.9, "generator_gradient": 4.0,
    "real_score": 1.0, "fake_score": -1.0, "told_apart": 0.85, "variety": 0.8, "least_variety": 0.6,
}  # fmt: skip


def test_variety_by_hand() -> None:
    """Squared distances from the class mean: 1 and 1; none; a single image."""
    images = torch.tensor([[0.0], [2.0], [7.0], [7.0], [5.0]])
    spread = variety(images, torch.tensor([0, 0, 1, 1, 2]), 4)
    torch.testing.assert_close(spread, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(variety(images + 100, torch.tensor([0, 0, 1, 1, 2]), 4), spread)


def test_a_run_that_goes_well_shows_no_sign() -> None:
    assert failure_signs(Game(), HEALTHY) == []
    assert failure_signs(WASSERSTEIN, HEALTHY | {"loss": -3.0, "discriminator_loss": -3.0}) == []


@pytest.mark.parametrize(
    ("changed", "sign"),
    [
        ({"variety": 0.02, "least_variety": 0.01}, "mode collapse: generated images vary 0.02 times"),
        ({"least_variety": 0.0}, "mode collapse: of one class they vary 0.00 times"),
        ({"told_apart": 0.5, "loss": 1.386}, "dead discriminator: it scores 50%"),
        ({"discriminator_loss": 0.001}, "dead discriminator: at a loss of 0.001"),
        ({"generator_gradient": 0.0}, "dead discriminator: the generator's gradient is 0"),
    ],
)
def test_each_sign_is_told(changed: dict[str, float], sign: str) -> None:
    (found,) = failure_signs(Game(), HEALTHY | changed)
    assert found.startswith(sign)


def signs_after_a_step(trained: Adversarial) -> list[str]:
    return trained.failure_signs(floats(trained.step(batch(30))))


def test_a_collapsed_generator_is_seen() -> None:
    """It does not look at its latent vector: one image a class."""
    trained = objective(generator=STILL, steps=1)
    nn.init.zeros_(trained.model.generator.project.weight)
    signs = signs_after_a_step(trained)
    assert any(sign.startswith("mode collapse: generated images vary 0.00") for sign in signs), signs


def test_one_collapsed_class_is_seen() -> None:
    class NoiseButForOneClass(nn.Module):
        def __init__(self, generator: nn.Module) -> None:
            super().__init__()
            self.generator = generator

        def forward(self, latent: Tensor, label: Tensor) -> Tensor:
            noise = torch.rand(len(label), 1, 28, 28) * 2 - 1
            return torch.where((label == 1)[:, None, None, None], 0.0, noise) + 0 * self.generator(
                latent, label
            )

    trained = objective(generator=STILL, steps=1)
    trained.generate = NoiseButForOneClass(trained.generate)
    signs = signs_after_a_step(trained)
    assert any(sign.startswith("mode collapse: of one class they vary 0.00") for sign in signs), signs


def test_a_dead_discriminator_is_seen() -> None:
    """All its scores are 0, whatever it is shown: its loss stays at 2 ln 2."""
    trained = objective(discriminator=STILL, steps=1)
    for parameter in trained.model.discriminator.parameters():
        nn.init.zeros_(parameter)
    measured = floats(trained.step(batch(30)))
    assert measured["loss"] == pytest.approx(2 * math.log(2))
    signs = trained.failure_signs(measured)
    assert any(sign.startswith("dead discriminator: it scores 0%") for sign in signs), signs
    assert any("the generator's gradient is 0.0e+00" in sign for sign in signs), signs


def test_nothing_is_said_before_the_networks_have_settled() -> None:
    trained = objective(generator=STILL, steps=8)
    nn.init.zeros_(trained.model.generator.project.weight)
    assert [bool(signs_after_a_step(trained)) for _ in range(3)] == [False, True, True]


# Going on

TINY: GANRecipe = replace(  # type: ignore[assignment]
    recipe_for("gan", "digits"),
    epochs=3,
    images_per_class=6,
    batch_size=16,
    model=GANConfig(4, 2),
    precision="32-true",
)
GAMES = {
    "non-saturating": TINY,
    "wasserstein": replace(
        TINY, model=GANConfig(4, 2, "none"), game=Game("wasserstein", discriminator_updates=2)
    ),
    "spectral": replace(TINY, model=GANConfig(4, 2, "spectral"), game=Game("hinge")),
}


@pytest.mark.parametrize("game", GAMES)
def test_a_checkpoint_goes_on_bit_for_bit(game: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut after each epoch in turn: both networks, both moments, both schedules, and the average."""
    monkeypatch.setattr("training.loop.CHECKPOINT_SECONDS", -1.0)
    rule = Optimizer("adam", 1e-3, betas=(0.5, 0.999), schedule="cosine")
    recipe = replace(GAMES[game], generator=rule, discriminator=rule)
    whole = pipeline.prepare(recipe)
    expected = pipeline.train_prepared(whole, lambda progress, points: None)

    class Cut(BaseException):
        pass

    for stop in (1, 2):
        path = tmp_path / f"{stop}.pt"

        def cut(progress: Progress, points: Points, stop: int = stop) -> None:
            if progress.epoch == stop + 1:
                raise Cut

        with pytest.raises(Cut):
            pipeline.train_prepared(pipeline.prepare(recipe), cut, path)
        resumed = pipeline.prepare(recipe)
        progress = pipeline.train_prepared(resumed, lambda progress, points: None, path)
        assert progress.history == expected.history
        theirs = resumed.objective.weights()
        assert {name.partition(".")[0] for name in theirs} == {"model", "average"}
        for name, tensor in whole.objective.weights().items():
            assert torch.equal(tensor, theirs[name]), f"{name} after a cut at {stop}"
