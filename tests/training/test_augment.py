"""Each change to a batch of images against what it says it does."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from training import augment
from training.augment import Augmentation
from training.image_recipe import VIEWS, views
from zoo.errors import ZooError

ALL = Augmentation(rotate=20, scale=0.2, flip=True, crop=3, colour=0.3, erase=0.5, mixup=0.4)
HEIGHT, WIDTH = 8, 12


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def batch(count: int = 64, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (count, HEIGHT, WIDTH, channels)
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator)


def same(count: int = 256, channels: int = 3) -> Tensor:
    return batch(1, channels).expand(count, HEIGHT, WIDTH, channels).contiguous()


def distinct(images: Tensor) -> int:
    return len(torch.unique(images.flatten(1), dim=0))


def test_all_on_means_every_field() -> None:
    assert set(ALL.parts()) == {field.name for field in fields(Augmentation)}


def test_nothing_is_on_by_default() -> None:
    images = batch()
    assert Augmentation().parts() == {}
    assert torch.equal(Augmentation().images(images), images)


@pytest.mark.parametrize("name", [name for name in ALL.parts() if name != "mixup"])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_has_its_own_draw(name: str, channels: int) -> None:
    images = same(64, channels)
    changed = ALL.parts()[name].images(images)
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= augment.WHITE
    assert distinct(changed) == 2 if name == "flip" else distinct(changed) > 8


def test_same_seed_same_images() -> None:
    images = batch()
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append(ALL.images(images))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_flip_mirrors_about_half() -> None:
    images = batch(400)
    changed = augment.shift(images, flip=True, crop=0)
    kept = (changed == images).flatten(1).all(dim=1)
    mirrored = (changed == images.flip(2)).flatten(1).all(dim=1)
    assert (kept | mirrored).all()
    assert 140 < int(mirrored.sum()) < 260


def test_crop_moves_by_whole_pixels_and_uncovers_black() -> None:
    images, reach = same(), 2
    changed = augment.shift(images, flip=False, crop=reach)
    padded = np.pad(images[0].numpy(), ((reach, reach), (reach, reach), (0, 0)))
    windows = {
        padded[top : top + HEIGHT, left : left + WIDTH].tobytes()
        for top in range(2 * reach + 1)
        for left in range(2 * reach + 1)
    }
    assert {image.numpy().tobytes() for image in changed} == windows  # all 25, and nothing else


def test_warp_by_nothing_changes_nothing() -> None:
    images = batch()
    still = augment.warp(images, 0, 0, flip=False, crop=0)
    torch.testing.assert_close(still, images.float(), atol=1e-3, rtol=0)


def test_warp_turns_a_rectangle_without_shearing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # A quarter turn of a square inside a wide image: the square stays a square.
    images = torch.zeros(1, 9, 15, 1, dtype=torch.uint8)
    images[0, 3:6, 6:9] = 200
    images[0, 3, 6] = 100  # its upper left corner
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.ones(size))  # the largest turn
    turned = augment.warp(images, 90, 0, flip=False, crop=0)[0, :, :, 0]
    expected = torch.zeros(9, 15)
    expected[3:6, 6:9] = 200
    corners = {(3, 8), (5, 6)}  # of a turn clockwise and of one the other way
    dark = {(int(r), int(c)) for r, c in torch.nonzero((turned - 100).abs() < 1)}
    assert len(dark) == 1
    assert dark <= corners
    expected[next(iter(dark))] = 100
    torch.testing.assert_close(turned, expected, atol=0.01, rtol=0)


def test_scale_keeps_the_centre() -> None:
    images = torch.zeros(200, 9, 9, 1, dtype=torch.uint8)
    images[:, 2:7, 2:7] = 200
    areas = augment.warp(images, 0, 0.4, flip=False, crop=0).sum(dim=(1, 2, 3)) / 200
    assert areas.min() < 25 * 0.7**2
    assert areas.max() > 25 * 1.3**2
    assert 25 * 0.55**2 < areas.min() < areas.max() < 25 * 1.45**2


def test_colour_changes_brightness_both_ways() -> None:
    grey = torch.full((300, 4, 4, 3), 100, dtype=torch.uint8)
    level = augment.recolour(grey, 0.2).mean(dim=(1, 2, 3))
    assert 79.9 < level.min() < 85
    assert 115 < level.max() < 120.1


def test_erase_covers_a_rectangle_of_some_images() -> None:
    images = same(400)
    erased = (augment.erase(images, 0.5) != images).any(dim=3)  # [B, H, W]
    chosen = erased.flatten(1).any(dim=1)
    assert 150 < int(chosen.sum()) < 250
    rows, columns = erased.any(dim=2), erased.any(dim=1)
    assert torch.equal(erased, rows[:, :, None] & columns[:, None, :])  # one rectangle
    share = erased[chosen].float().mean(dim=(1, 2))
    assert 0.05 < share.mean() < 0.35


def test_mixup_is_the_paper_s() -> None:
    images = batch()
    mixed, order, share = augment.mix(images, 0.4)
    own = images.double()
    expected = share * own + (1 - share) * own[order]
    torch.testing.assert_close(mixed.double(), expected, atol=1e-3, rtol=0)
    assert sorted(order.tolist()) == list(range(len(images)))
    assert 0 <= share <= 1


@pytest.mark.parametrize(
    "wrong", [{"rotate": -1}, {"scale": 1.0}, {"crop": -2}, {"erase": 1.5}, {"mixup": -0.1}]
)
def test_values_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ZooError, match="must"):
        replace(Augmentation(), **wrong)


def test_figure_has_a_row_for_each_change() -> None:
    figure = views(ALL, batch(VIEWS + 1).numpy())
    labels = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert labels == ["as it is", *ALL.parts()]
