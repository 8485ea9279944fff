"""Requests to arrays and arrays to answers, for every kind of task."""

import json
import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from zoo.errors import InputTooLarge, InvalidInput
from zoo.tasks import TASKS, Arrays, Schema, Task, any_task
from zoo.tasks.base import MAX_BATCH, rows_at_once, run_in_batches
from zoo.tasks.forecasting import Forecasting
from zoo.tasks.image_classification import ClassifyImageRequest, ImageClassification
from zoo.tasks.image_generation import ImageGeneration
from zoo.tasks.labels import label_index
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.rows import RowsRequest
from zoo.tasks.sequence_to_sequence import SequenceToSequence
from zoo.tasks.tabular_classification import TabularClassification
from zoo.tasks.tabular_regression import TabularRegression

RANDOM = np.random.default_rng(0)
FEATURES = {"features": RANDOM.normal(3, 2, (40, 2)).astype(np.float32)}
ROWS = Schema(feature_names=("age", "mass"), labels=("no", "yes"), target="risk", unit="%")

STEPS = np.cumsum(RANDOM.normal(size=(40, 2)), axis=0).astype(np.float32)
CUT = np.lib.stride_tricks.sliding_window_view(STEPS, 8, axis=0).transpose(0, 2, 1)  # [N, W + H, V]
WINDOWS = {"history": CUT[:, :5], "target": CUT[:, 5:]}
SERIES = Schema(feature_names=("load", "heat"), unit="K", period="M", season=4)


def persistence(inputs: Arrays) -> Arrays:
    return {"forecast": inputs["history"][:, -1:].repeat(3, axis=1)}


TEXT = LanguageModelling.fit({"text": np.frombuffer(b"to be or not to be " * 9, np.uint8)}, Schema())
PAIRS = {side: np.array([b"two men", b"a dog", b"the sea"]) for side in ("source", "target")}
TRANSLATION = SequenceToSequence.fit(PAIRS, Schema(metric="bleu", vocabulary=300))

FITTED: dict[str, tuple[Task, Arrays, Arrays]] = {
    # kind: fitted task, training split, graph outputs for two examples
    "tabular_regression": (
        TabularRegression.fit({**FEATURES, "target": RANDOM.normal(size=40)}, ROWS),
        FEATURES,
        {"value": np.float32([1.5, -2.0])},
    ),
    "tabular_classification": (
        TabularClassification.fit({**FEATURES, "target": np.zeros(40, np.int64)}, ROWS),
        FEATURES,
        {"probabilities": np.float32([[0.25, 0.75], [0.5, 0.5]])},
    ),
    "image_classification": (
        ImageClassification.fit(
            {"image": RANDOM.integers(0, 256, (40, 4, 4, 1), dtype=np.uint8), "target": np.zeros(40)},
            Schema(labels=("a", "b", "c")),
        ),
        {"image": RANDOM.integers(0, 256, (40, 4, 4, 1), dtype=np.uint8)},
        {"probabilities": np.float32([[0.1, 0.7, 0.2], [0.4, 0.3, 0.3]])},
    ),
    "image_generation": (
        ImageGeneration(height=4, width=5, channels=3, labels=("a", "b", "c"), latent_size=2),
        {},
        {"image": RANDOM.random((2, 4, 5, 3)).astype(np.float32)},
    ),
    "forecasting": (
        Forecasting.fit(WINDOWS, SERIES).calibrated(persistence, WINDOWS),
        WINDOWS,
        {"forecast": np.float32([[[1, 2], [3, 4], [5, 6]]])},
    ),
    "language_modelling": (
        TEXT,
        TEXT.examples({"text": np.frombuffer(b"to be or not to be " * 9, np.uint8)}),
        {"tokens": np.array([[1, 2, 3]]), "prompt_tokens": np.array(64), "stopped": np.array(False)},
    ),
    "sequence_to_sequence": (
        TRANSLATION,
        TRANSLATION.examples(PAIRS),
        {"tokens": np.array([[5, 6, 7], [8, 0, 0]]), "scores": np.array([-0.1, -0.2])},
    ),
}
KINDS = pytest.mark.parametrize("kind", TASKS)
SINGLE = {"forecasting", "language_modelling"}  # kinds of which a request asks for one answer
ANSWERS = {  # where not predictions
    "image_generation": "images",
    "forecasting": "forecast",
    "language_modelling": "text",
    "sequence_to_sequence": "texts",
}


def test_every_kind_is_tested() -> None:
    assert FITTED.keys() == TASKS.keys()


@KINDS
def test_a_task_survives_json(kind: str) -> None:
    task = FITTED[kind][0]
    assert any_task.validate_json(task.model_dump_json()) == task


@KINDS
@pytest.mark.parametrize("batch", [1, 3])
def test_request_for_is_the_inverse_of_encode(kind: str, batch: int) -> None:
    task = FITTED[kind][0]
    examples = task.example_inputs(batch)
    if kind in SINGLE and batch > 1:
        with pytest.raises(InvalidInput, match=r"one history|one prompt"):
            task.request_for(examples, "name")
        return
    request = task.request_type.model_validate(task.request_for(examples, "name"))
    encoded = task.encode(request)
    assert encoded.keys() == examples.keys() == set(task.inputs)
    for name, array in examples.items():
        assert encoded[name].dtype == array.dtype
        assert (encoded[name] == array).all()


@KINDS
def test_the_answer_fits_the_response_type(kind: str) -> None:
    task, _, outputs = FITTED[kind]
    count = 1 if kind in SINGLE else 2
    request = task.request_type.model_validate(task.request_for(task.example_inputs(count), "name"))
    answer = task.decode(request, outputs)
    lineage = {"model": "m", "version": "1", "run_id": "r", "digest": "d", "provider": "p"}
    checked = task.response_type.model_validate({**answer, "lineage": lineage}).model_dump()
    assert len(checked[ANSWERS.get(kind, "predictions")]) == (3 if kind in SINGLE else 2)


@KINDS
def test_the_baseline_shares_add_up(kind: str) -> None:
    task, train, _ = FITTED[kind]
    for statistics in task.baseline(train).values():
        assert math.isclose(sum(statistics["shares"]), 1)
        assert len(statistics["shares"]) == len(statistics["edges"]) + 1


def encode(kind: str, **fields: Any) -> Arrays:
    task = FITTED[kind][0]
    return task.encode(task.request_type.model_validate({"model": "name", **fields}))


def test_rows_by_name_come_in_the_models_order() -> None:
    by_name = encode("tabular_regression", rows=[{"mass": 2, "age": 1}])
    assert by_name["features"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1.0], "has 1 values; expected 2"),
        ([1.0, 2.0, 3.0], "has 3 values; expected 2"),
        ([], "has 0 values"),
        ({"age": 1.0}, "lacks ['mass']"),
        ({"age": 1.0, "mass": 2.0, "height": 3.0}, "unknown features ['height']"),
        ([1e39, 0.0], "'age' is beyond the range"),
    ],
)
def test_rows_that_do_not_fit(row: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        encode("tabular_classification", rows=[[1.0, 2.0], row])
    assert message in str(refused.value)
    assert str(refused.value).startswith("rows[1]")


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "m", "rows": []}',
        '{"model": "m", "rows": [[NaN, 1]]}',
        '{"model": "m", "rows": [[Infinity, 1]]}',
        '{"model": "m", "rows": [[1e400, 1]]}',
        '{"model": "m", "rows": [["1", 1]]}',
        '{"model": "m", "rows": [[true, 1]]}',
        '{"model": "m", "rows": [[null, 1]]}',
        '{"model": "m", "rows": [1, 2]}',
        '{"model": "m", "rows": [[1, 2]], "row": 1}',
        '{"model": 3, "rows": [[1, 2]]}',
        '{"rows": [[1, 2]]}',
        '{"model": "m", "rows": %s}' % ([[1.0, 2.0]] * (MAX_BATCH + 1)),
    ],
)
def test_rows_against_the_schema(body: str) -> None:
    with pytest.raises(ValidationError):
        RowsRequest.model_validate_json(body)


def test_a_body_of_wrong_values_is_refused_at_the_first() -> None:
    body = json.dumps({"model": "m", "rows": [["a"] * 1000] * 1000})
    with pytest.raises(ValidationError) as refused:
        RowsRequest.model_validate_json(body)
    assert refused.value.error_count() <= 2


PIXELS = np.arange(16).reshape(4, 4)


@pytest.mark.parametrize(
    "pixels", [PIXELS, PIXELS[..., None], PIXELS[None], PIXELS[None, ..., None], PIXELS.astype(float)]
)
def test_pixels_in_every_shape(pixels: np.ndarray) -> None:
    encoded = encode("image_classification", pixels=pixels.tolist())["image"]
    assert encoded.shape == (1, 4, 4, 1)
    assert (encoded.ravel() == np.arange(16)).all()


@pytest.mark.parametrize(
    "pixels",
    [
        [],
        [1, 2, 3],
        [[1, 2], [3]],
        [[0.5] * 4] * 4,
        [[256] * 4] * 4,
        [[-1] * 4] * 4,
        [["1"] * 4] * 4,
        [[True] * 4] * 4,
        [[None] * 4] * 4,
        [[math.nan] * 4] * 4,
        [[10**30] * 4] * 4,
        [[1] * 5] * 5,
        [[[1, 1, 1]] * 4] * 4,
        [[[[[1]]]]],
    ],
)
def test_pixels_that_do_not_fit(pixels: list[Any]) -> None:
    with pytest.raises(InvalidInput, match="pixels: "):
        encode("image_classification", pixels=pixels)


def test_image_or_pixels() -> None:
    for fields in ({}, {"image": "aaaa", "pixels": [[1]]}):
        with pytest.raises(ValidationError, match="either `image` or `pixels`"):
            ClassifyImageRequest.model_validate({"model": "m", **fields})


def test_top_k_keeps_the_most_probable_in_order() -> None:
    task, _, outputs = FITTED["image_classification"]
    request = ClassifyImageRequest(model="m", pixels=[1], top_k=2)
    first, second = task.decode(request, outputs)["predictions"]
    assert list(first["probabilities"]) == ["b", "c"]
    assert first["label"] == "b"
    assert list(second["probabilities"]) == ["a", "b"]  # of equals the first


def test_a_label_of_digits_goes_before_an_index() -> None:
    assert [label_index(wanted, ("20", "10", "0"), "label") for wanted in ("20", 20, 0, 1, "0")] == [
        0,
        0,
        2,
        1,
        2,
    ]
    with pytest.raises(InvalidInput, match=r"labels are 0, 1, .*, 31 and 968 more"):
        label_index("x", tuple(map(str, range(1000))), "label")


def test_a_bomb_is_too_large_not_unreadable() -> None:
    assert issubclass(InputTooLarge, InvalidInput)


@pytest.mark.parametrize(
    ("shape", "rows"),
    [((9, 10), 1024), ((9, 28, 28, 1), 334), ((9, 224, 224, 3), 1), ((9, 2000, 2000, 3), 1)],
)
def test_large_images_are_run_a_few_at_a_time(shape: tuple[int, ...], rows: int) -> None:
    assert rows_at_once([shape, (9,)]) == rows


def test_batches_are_joined_in_order() -> None:
    features = np.arange(3000.0)[:, None]
    sizes = []

    def run(inputs: Arrays) -> Arrays:
        sizes.append(len(inputs["features"]))
        return {"value": 2 * inputs["features"][:, 0]}

    np.testing.assert_array_equal(run_in_batches(run, {"features": features})["value"], 2 * features[:, 0])
    assert sizes == [1024, 1024, 952]


@pytest.mark.parametrize("kind", [kind for kind, task in TASKS.items() if task.alike is not None])
def test_two_versions_answers_are_alike_or_not(kind: str) -> None:
    """Three examples, of which the second alone is answered otherwise."""
    ours, task = {
        "tabular_regression": (
            {"value": np.float32([10, 20, 30])},
            TabularRegression.model_construct(target_std=50.0),
        ),
        "forecasting": (
            {"forecast": np.float32([[[1, 100], [2, 200]]] * 3)},
            Forecasting.model_construct(std=(50.0, 50.0)),
        ),
    }.get(
        kind,
        ({"probabilities": np.float32([[0.9, 0.1]] * 3)}, TASKS[kind].model_construct(labels=("cat", "dog"))),
    )
    (name, values), other = next(iter(ours.items())), task
    theirs = values * np.float32(0.99) + 0.01
    theirs[1] += 6 if name != "probabilities" else np.float32([-0.8, 0.8])
    assert task.alike(ours, other, {name: theirs}).tolist() == [True, False, True]
    if name == "probabilities":
        turned = task.model_copy(update={"labels": ("dog", "cat")})
        assert task.alike(ours, turned, {name: theirs[:, ::-1]}).tolist() == [True, False, True]
