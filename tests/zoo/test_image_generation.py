"""Seeds and classes to images, and what an evaluation with a judge measures."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from zoo.errors import InvalidInput
from zoo.tasks import Arrays, Schema
from zoo.tasks.image_generation import GenerateImagesRequest, ImageGeneration

LABELS = ("cat", "dog", "7")
TASK = ImageGeneration(height=4, width=5, channels=3, labels=LABELS, latent_size=8)


def asked(**fields: Any) -> GenerateImagesRequest:
    return GenerateImagesRequest.model_validate({"model": "m", **fields})


def images(count: int) -> Arrays:
    return {"image": np.random.default_rng(1).random((count, 4, 5, 3)).astype(np.float32)}


def pixels(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


def test_fit_reads_the_size_and_leaves_the_latent_size_to_the_recipe() -> None:
    fitted = ImageGeneration.fit({"image": np.zeros((9, 4, 5, 3), np.uint8)}, Schema(labels=LABELS))
    assert fitted.model_copy(update={"latent_size": 8}) == TASK


def test_the_same_seed_gives_the_same_latents_and_fewer_are_the_first_of_more() -> None:
    many, few = (TASK.encode(asked(seed=5, count=count)) for count in (200, 3))
    other = TASK.encode(asked(seed=6, count=3))
    for name in TASK.inputs:
        np.testing.assert_array_equal(many[name][:3], few[name])
    assert not (other["latent"] == few["latent"]).any()
    assert (many["latent"].shape, many["latent"].dtype) == ((200, 8), np.float32)
    assert abs(many["latent"].mean()) < 0.1
    assert many["latent"].std() == pytest.approx(1, abs=0.1)


def test_without_a_seed_a_random_one_is_reported() -> None:
    requests = [asked(), asked(seed=None), GenerateImagesRequest.model_validate_json('{"model": "m"}')]
    seeds = [TASK.decode(request, images(1))["seed"] for request in requests]
    assert len(set(seeds)) == 3
    again = asked(seed=seeds[0])
    np.testing.assert_array_equal(TASK.encode(again)["latent"], TASK.encode(requests[0])["latent"])


@pytest.mark.parametrize(
    ("wanted", "classes"),
    [(None, [0, 1, 2, 0]), ("dog", [1] * 4), (1, [1] * 4), ("7", [2] * 4), (0, [0] * 4)],
)
def test_classes(wanted: str | int | None, classes: list[int]) -> None:
    request = asked(count=4, **{"class": wanted})
    encoded = TASK.encode(request)["class"]
    assert (encoded.tolist(), encoded.dtype) == (classes, np.int64)
    assert TASK.decode(request, images(4))["classes"] == [LABELS[k] for k in classes]


@pytest.mark.parametrize("wanted", ["cow", 3, -1, ""])
def test_an_unknown_class_names_the_labels(wanted: str | int) -> None:
    with pytest.raises(InvalidInput, match=r"class: no such label; the model's labels are cat, dog, 7"):
        TASK.encode(asked(**{"class": wanted}))


@pytest.mark.parametrize(
    "fields",
    [
        *({"count": count} for count in (0, 257, 1.5, "3", True)),
        *({"seed": seed} for seed in (-1, 2**53, 0.5, "3")),
        *({"class": wanted} for wanted in (1.5, True, ["cat"])),
        {"class_": "cat"},
        {"classes": "cat"},
    ],
    ids=str,
)
def test_against_the_schema(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        asked(**fields)


def test_intensities_become_pixels() -> None:
    image = np.zeros((1, 4, 5, 3), np.float32)
    image[0, 0, :, 0] = [-0.5, 0, 0.5, 1, 2]
    answer = TASK.decode(asked(), {"image": image})
    assert pixels(answer["images"][0])[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_the_picture_is_a_grid_that_says_its_seed() -> None:
    request, outputs = asked(count=3, seed=4), images(3)
    picture = Image.open(io.BytesIO(TASK.picture(request, TASK.encode(request), outputs)))
    assert picture.info["seed"] == "4"
    assert picture.size == (5 + 2 + 5, 4 + 2 + 4)
    shown = np.asarray(picture)
    first, second, third = (pixels(png) for png in TASK.decode(request, outputs)["images"])
    for place, image in (((0, 0), first), ((0, 7), second), ((6, 0), third)):
        np.testing.assert_array_equal(shown[place[0] : place[0] + 4, place[1] : place[1] + 5], image)
    assert (shown[4:6] == 255).all()
    assert (shown[6:, 5:] == 255).all()


def test_a_request_for_other_latents_cannot_be_made() -> None:
    other = {**TASK.example_inputs(2), "latent": np.ones((2, 8), np.float32)}
    with pytest.raises(InvalidInput, match="example_inputs"):
        TASK.request_for(other, "m")


def test_rounding_of_another_machine_is_no_other_answer() -> None:
    request = asked(count=2, seed=0)
    levels = np.full((2, 4, 5, 3), 100, np.float32)
    answer = TASK.decode(request, {"image": levels / 255})
    nearly, other = levels.copy(), levels.copy()
    nearly[0, 0, 0] += 1
    other[0, 0, 0] += 2
    assert TASK.agrees(TASK.decode(request, {"image": nearly / 255}), answer)
    assert not TASK.agrees(TASK.decode(request, {"image": other / 255}), answer)
    assert not TASK.agrees({**answer, "images": answer["images"][:1]}, answer)
    assert not TASK.agrees({**answer, "classes": ["dog", "cat"]}, answer)


# Evaluation

TARGET = np.arange(900) % 3
CENTRES = np.float32([[0, 0], [8, 0], [0, 8]])
REAL = (CENTRES[TARGET] + np.random.default_rng(3).normal(size=(900, 2))).astype(np.float32)
SPLIT = {"target": TARGET, "features": REAL}


def made_from(features: np.ndarray) -> dict[str, float]:
    """Metrics of a generator whose judge sees these features, and recognises the nearest centre's class."""
    start = 0

    def run(inputs: Arrays) -> Arrays:
        nonlocal start
        part = features[start : start + len(inputs["class"])]
        np.testing.assert_array_equal(inputs["class"], TARGET[start : start + len(part)])
        start += len(part)
        distances = np.linalg.norm(part[:, None] - CENTRES, axis=2)
        return {"features": part, "probabilities": np.exp(-distances)}

    return TASK.evaluate(run, SPLIT)


def test_the_real_images_themselves_are_perfect() -> None:
    measured = made_from(REAL)
    assert measured["frechet_distance"] == pytest.approx(0, abs=1e-9)
    assert (measured["precision"], measured["recall"]) == (1, 1)
    assert measured["recognised"] > 0.99


def test_one_image_for_all_is_precise_and_recalls_nothing() -> None:
    collapsed = made_from(np.repeat(REAL[:1], 900, axis=0))
    assert collapsed["precision"] == 1
    assert collapsed["recall"] < 0.01
    assert collapsed["recognised"] == pytest.approx(1 / 3)
    assert collapsed["frechet_distance"] > 20


def test_noise_is_neither_precise_nor_near() -> None:
    noise = made_from(np.random.default_rng(4).uniform(-40, 40, (900, 2)).astype(np.float32))
    assert noise["precision"] < 0.1
    assert noise["recognised"] == pytest.approx(1 / 3, abs=0.1)


def test_the_right_images_under_the_wrong_classes_are_not_recognised() -> None:
    shifted = made_from(np.roll(REAL, 1, axis=0))
    assert shifted["frechet_distance"] == pytest.approx(0, abs=1e-9)
    assert shifted["recognised"] < 0.01


def test_the_primary_metric_is_better_when_lower() -> None:
    assert TASK.primary_metric in made_from(REAL)
    assert TASK.better(1.0, than=2.0)
