"""What a bundle says of its training inputs, and what of a request is compared with it."""

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from zoo.tasks import ImageClassification, Schema
from zoo.tasks.baseline import MOST_NUMBERS, binned, distribution, feature_baseline


def shares(column: np.ndarray, edges: list[float]) -> list[float]:
    return (binned(column, np.array(edges, np.float32)) / len(column)).tolist()


def test_deciles() -> None:
    column = np.random.default_rng(0).normal(size=2000)
    made = distribution(column)
    assert len(made["edges"]) == 9
    np.testing.assert_allclose(made["shares"], 0.1, atol=0.002)
    assert shares(column, made["edges"]) == made["shares"]


@pytest.mark.parametrize(("rows", "bins"), [(10, 4), (450, 4), (750, 7), (5000, 10)])
def test_few_rows_have_few_bins(rows: int, bins: int) -> None:
    assert len(distribution(np.arange(rows))["shares"]) == bins


@pytest.mark.parametrize("values", [[7.25], [-0.04464164, 0.05068012], [0, 1, 2]])
def test_a_category_has_bins_of_its_own_and_new_ones_have_others(values: list[float]) -> None:
    column = np.repeat(values, 300)
    made = distribution(column)
    known = shares(np.array(values), made["edges"])
    assert [share > 0 for share in made["shares"]] == [share > 0 for share in known]
    new = [min(values) - 1, *(value + 0.01 for value in values)]
    assert not any(a > 0 and b > 0 for a, b in zip(shares(np.array(new), made["edges"]), known, strict=True))


def test_what_is_nearly_always_the_same() -> None:
    column = np.where(np.arange(1000) < 950, 0.0, np.arange(1000))
    made = distribution(column)
    assert made["shares"] == pytest.approx([0, 0.95, 0.05])


def test_float64_and_float32_fall_into_the_same_bins() -> None:
    column = np.random.default_rng(1).choice([0.1, 0.2, 0.3, 0.7], 1000)
    made = feature_baseline(column[:, None], ("x",))["x"]
    assert shares(column.astype(np.float32), made["edges"]) == made["shares"]


@pytest.mark.parametrize("side", [3, 8, 15, 28, 32, 224])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_observed_at_a_few_places(side: int, channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, side, side, channels), dtype=np.uint8)
    task = ImageClassification.fit({"image": image}, Schema(labels=("a", "b")))
    observed = task.observed(image)
    assert observed.shape[:2] == (2, len(task.observed_names()))
    assert observed[0].size <= MOST_NUMBERS
    assert task.baseline({"image": image}).keys() == set(task.observed_names())
    if channels == 3:
        red, _, blue, warmth = observed.swapaxes(0, 1)
        assert (warmth == red - blue).all()
        assert warmth.min() < 0 < warmth.max()


def test_a_photo_is_not_its_negative() -> None:
    """Whose intensities may lie evenly between black and white, but whose colours do not."""
    photo = load_sample_images().images[0][None]
    task = ImageClassification.fit({"image": photo}, Schema(labels=("a", "b")))
    edges = task.baseline({"image": photo})["red_less_blue"]["edges"]
    own, negative = (shares(task.observed(image)[0, -1], edges) for image in (photo, 255 - photo))
    assert sum(abs(a - b) for a, b in zip(own, negative, strict=True)) > 0.5
