"""Occlusion on models that are known to look at one place."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from zoo.errors import InvalidInput
from zoo.tasks import OPERATIONS, TASKS, Arrays
from zoo.tasks.image_classification import ImageClassification
from zoo.tasks.image_explanation import (
    EXPLAIN_IMAGE,
    FALLS,
    RISES,
    SHOWN_SIDE,
    ExplainImageRequest,
    _stretches,
)

LABELS = ("dark", "bright", "never")
PLACE = (slice(8, 10), slice(20, 22))  # the only pixels that the models below look at


def task_of(height: int = 32, width: int = 32, channels: int = 1) -> ImageClassification:
    return ImageClassification(
        height=height,
        width=width,
        channels=channels,
        labels=LABELS,
        pixel_mean=(0.4,) * channels,
        pixel_std=(1.0,) * channels,
    )


def looks_at_place(inputs: Arrays) -> Arrays:
    """Probability of `bright`: 0.1 to 0.9 with the brightness of the place."""
    bright = 0.1 + 0.8 * inputs["image"][:, *PLACE].mean(axis=(1, 2, 3)) / 255
    return {"probabilities": np.stack([1 - bright, bright, np.zeros_like(bright)], axis=1)}


WHITE = np.full((32, 32, 1), 255, np.uint8)


def explain(image: np.ndarray, **fields: Any) -> tuple[dict[str, Any], np.ndarray]:
    """The answer, and the picture as [H, W, 3]."""
    task = task_of(*image.shape)
    request = ExplainImageRequest.model_validate({"model": "m", "pixels": image.tolist(), **fields})
    inputs = EXPLAIN_IMAGE.encode(task, request)
    outputs = looks_at_place(inputs)
    assert EXPLAIN_IMAGE.picture
    png = EXPLAIN_IMAGE.picture(task, request, inputs, outputs)
    return EXPLAIN_IMAGE.decode(task, request, outputs), np.asarray(Image.open(io.BytesIO(png))).astype(int)


def test_the_heat_is_where_the_model_looks() -> None:
    answer, _ = explain(WHITE)
    assert (answer["label"], answer["probability"]) == ("bright", pytest.approx(0.9))
    heat = np.array(answer["heatmap"])
    assert heat.shape == (32, 32)
    assert heat.min() >= 0
    rows, columns = np.nonzero(heat == heat.max())
    assert (heat[PLACE] == heat.max()).all()
    assert (abs(rows - 8.5).max(), abs(columns - 20.5).max()) <= (8, 8)
    assert heat.max() == pytest.approx(0.8), "every patch over the place covers all of it"
    far = heat.copy()
    far[1:17, 13:29] = 0  # a patch of 8 pixels that covers the place reaches no further
    assert not far.any()


def test_another_label_is_explained_on_demand() -> None:
    of_bright, _ = explain(WHITE, label="bright")
    of_dark, _ = explain(WHITE, label="dark")
    assert (of_dark["label"], of_dark["probability"]) == ("dark", pytest.approx(0.1))
    np.testing.assert_allclose(of_dark["heatmap"], -np.array(of_bright["heatmap"]), atol=1e-12)
    assert explain(WHITE, label=0)[0] == of_dark
    assert not np.any(explain(WHITE, label="never")[0]["heatmap"])


def test_what_is_covered_already_changes_nothing() -> None:
    assert not np.any(explain(np.zeros_like(WHITE))[0]["heatmap"]), "the cover is the mean pixel, rounded"


def test_the_first_row_is_the_image_and_each_other_has_one_patch() -> None:
    task = task_of(28, 28, 3)
    image = np.random.default_rng(0).integers(1, 256, (28, 28, 3), dtype=np.uint8)
    request = ExplainImageRequest.model_validate({"model": "m", "pixels": image.tolist()})
    rows = EXPLAIN_IMAGE.encode(task, request)["image"]
    assert (rows.shape, rows.dtype) == ((1 + 49, 28, 28, 3), np.uint8)
    np.testing.assert_array_equal(rows[0], image)
    changed = (rows[1:] != image).all(axis=3)
    assert (changed.sum(axis=(1, 2)) == 7 * 7).all()
    assert (rows[1:][changed] == 0).all(), "the mean of 0.4, rounded"
    assert changed.any(axis=0).all(), "every pixel is covered by some patch"


@pytest.mark.parametrize("side", range(1, 65))
def test_patches_of_every_size_cover_the_image(side: int) -> None:
    stretches = _stretches(side)
    covered = np.zeros(side, int)
    for stretch in stretches:
        covered[stretch] += 1
        assert stretch.stop - stretch.start == max(1, round(side / 4))
    assert covered.min() >= 1
    assert (stretches[0].start, stretches[-1].stop) == (0, side)
    assert len({(s.start, s.stop) for s in stretches}) == len(stretches) <= 7


@pytest.mark.parametrize("size", [(32, 32, 1), (28, 32, 3), (224, 224, 3), (300, 230, 3)])
def test_the_picture_is_the_image_in_grey_under_the_heat(size: tuple[int, int, int]) -> None:
    grey = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    grey[...] = grey[..., :1]
    grey[PLACE] = 255
    _, picture = explain(grey)
    height, width, _ = picture.shape
    assert max(height, width) >= SHOWN_SIDE
    times = height // size[0]
    assert (height, width) == (times * size[0], times * size[1])
    shown = picture[times // 2 :: times, times // 2 :: times]
    outside = (slice(-4, None), slice(0, 4))
    np.testing.assert_array_equal(shown[outside], np.repeat(grey[outside][..., :1], 3, axis=2))
    red, _, blue = shown[PLACE].mean(axis=(0, 1))
    assert red > blue + 50, "under the place's heat"


def test_colours_tell_falls_from_rises() -> None:
    for label, colour in (("bright", FALLS), ("dark", RISES)):
        _, picture = explain(WHITE, label=label)
        hottest = picture[9 * 7, 21 * 7]
        np.testing.assert_allclose(hottest, 0.2 * 255 + 0.8 * np.array(colour), atol=2)


def test_a_slight_fall_is_not_shown_as_a_great_one() -> None:
    nearly = np.zeros_like(WHITE)
    nearly[PLACE] = 5
    answer, picture = explain(nearly, label="bright")
    assert 0 < np.max(answer["heatmap"]) < 0.02
    assert picture[30:100, 110:180].max() < 60


@pytest.mark.parametrize("label", ["grey", 3, -1])
def test_an_unknown_label_names_the_labels(label: str | int) -> None:
    with pytest.raises(
        InvalidInput, match=r"label: no such label; the model's labels are dark, bright, never"
    ):
        explain(WHITE, label=label)


def test_one_image_at_a_time() -> None:
    with pytest.raises(InvalidInput, match="2 images; one is explained at a time"):
        EXPLAIN_IMAGE.encode(task_of(), ExplainImageRequest(model="m", pixels=[WHITE.tolist()] * 2))
    with pytest.raises(InvalidInput, match="3 images; one is explained at a time"):
        EXPLAIN_IMAGE.encode(task_of(), ExplainImageRequest(model="m", image=["not", "even", "read"]))
    for fields in ({"image": []}, {}, {"image": "a", "pixels": [[1]]}, {"top_k": 1}):
        with pytest.raises(ValidationError):
            ExplainImageRequest.model_validate({"model": "m", **fields})


def test_every_operation_has_an_endpoint_of_its_own() -> None:
    endpoints = [operation.endpoint for operation in OPERATIONS]
    assert len(set(endpoints)) == len(endpoints)
    assert {task.endpoint for task in TASKS.values()} < set(endpoints)
    assert {operation.task_type for operation in OPERATIONS} == set(TASKS.values())
