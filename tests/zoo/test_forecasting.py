"""Forecasts: what a history may be, how intervals are made and measured."""

import itertools
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from zoo.errors import InvalidInput, ZooError
from zoo.tasks import Arrays, Schema
from zoo.tasks.forecasting import LEVELS, Forecasting, ForecastRequest, series_of

WINDOW, HORIZON = 4, 3
RANDOM = np.random.default_rng(0)


def cut(series: np.ndarray, window: int = WINDOW, horizon: int = HORIZON) -> Arrays:  # type: ignore[type-arg]
    views = np.lib.stride_tricks.sliding_window_view(series, window + horizon, axis=0).transpose(0, 2, 1)
    return {"history": views[:, :window], "target": views[:, window:]}


def persistence(inputs: Arrays) -> Arrays:
    return {"forecast": inputs["history"][:, -1:].repeat(HORIZON, axis=1)}


WALK = np.cumsum(RANDOM.normal(size=(400, 1)), axis=0).astype(np.float32)
MONTHLY = Schema(feature_names=("sales",), period="M", season=12)
TASK = Forecasting.fit(cut(WALK), MONTHLY).calibrated(persistence, cut(WALK))
PAIR = Forecasting.fit(cut(np.hstack([WALK, -WALK])), Schema(feature_names=("a", "b")))


def request(**fields: Any) -> ForecastRequest:
    return ForecastRequest.model_validate({"model": "m", **fields})


def answer(task: Forecasting = TASK, **fields: Any) -> dict[str, Any]:
    asked = request(**fields)
    return task.decode(asked, persistence(task.encode(asked)))


def test_the_fit_sees_each_value_once() -> None:
    assert np.array_equal(series_of(cut(WALK)), WALK)
    assert TASK.mean[0] == pytest.approx(WALK.mean(), abs=1e-5)
    assert TASK.naive_error[0] == pytest.approx(np.abs(WALK[12:] - WALK[:-12]).mean(), rel=1e-5)


def test_the_last_values_are_what_counts() -> None:
    long = TASK.encode(request(history=[9.0, 8.0, 1.0, 2.0, 3.0, 4.0]))["history"]
    assert long.tolist() == [[[1], [2], [3], [4]]]
    assert long.dtype == np.float32


@pytest.mark.parametrize(("horizon", "steps"), [(None, 3), (1, 1), (3, 3)])
def test_as_many_steps_as_were_asked_for(horizon: int | None, steps: int) -> None:
    given = answer(history=[1.0, 2.0, 3.0, 4.0], horizon=horizon)
    assert given["forecast"] == [4.0] * steps
    assert len(given["lower"]) == len(given["upper"]) == steps
    assert all(low < 4 < high for low, high in zip(given["lower"], given["upper"], strict=True))


def test_rows_are_answered_in_rows() -> None:
    assert answer(history=[[1.0], [2.0], [3.0], [4.0]], horizon=1)["forecast"] == [[4.0]]
    pair = PAIR.calibrated(persistence, cut(np.hstack([WALK, -WALK])))
    assert answer(pair, history=[[1.0, 5.0]] * 4, horizon=2)["forecast"] == [[1.0, 5.0]] * 2


def test_wider_intervals_for_more_of_the_truth() -> None:
    history = [1.0, 2.0, 3.0, 4.0]
    widths = [
        np.subtract(*(answer(history=history, interval=level)[side] for side in ("upper", "lower")))
        for level in (0.5, 0.65, 0.9, 0.93, 0.99)
    ]
    assert all((wide > narrow).all() for narrow, wide in itertools.pairwise(widths))
    assert (np.diff(widths[2]) > 0).all()  # a walk is farther off, the farther ahead


def test_intervals_cover_what_they_say() -> None:
    later = np.cumsum(np.random.default_rng(1).normal(size=(4000, 1)), axis=0).astype(np.float32)
    measured = TASK.evaluate(persistence, cut(later))
    assert measured["coverage_80"] == pytest.approx(0.8, abs=0.05)
    assert measured["coverage_95"] == pytest.approx(0.95, abs=0.03)


def test_conformal_radii_are_order_statistics_of_the_errors() -> None:
    held_out = cut(WALK[:106])
    errors = np.sort(np.abs(persistence(held_out)["forecast"] - held_out["target"]), axis=0)
    assert len(errors) == 100
    radii = TASK.calibrated(persistence, held_out).radii
    # ⌈101 level⌉-th smallest of 100
    for level, rank in zip(LEVELS, (51, 61, 71, 81, 91, 96, 100), strict=True):
        assert radii[LEVELS.index(level)] == pytest.approx(errors[rank - 1])


def test_metrics() -> None:
    split = {"history": np.zeros((2, WINDOW, 1), np.float32), "target": np.float32([[[1], [-1], [3]]] * 2)}
    measured = TASK.evaluate(persistence, split)
    assert measured["mae"] == pytest.approx(5 / 3)
    assert measured["rmse"] == pytest.approx((11 / 3) ** 0.5)
    assert measured["mase"] == pytest.approx(5 / 3 / TASK.naive_error[0])
    assert measured["scaled_mse"] == pytest.approx(11 / 3 / TASK.std[0] ** 2)


def test_no_intervals_before_they_are_measured() -> None:
    with pytest.raises(ZooError, match="no intervals"):
        PAIR.decode(request(history=[[1.0, 2.0]] * 4), {"forecast": np.zeros((1, 3, 2))})
    assert "coverage_80" not in PAIR.evaluate(persistence, cut(np.hstack([WALK, -WALK])))


@pytest.mark.parametrize(
    "timestamps",
    [
        ["2025-11-01", "2025-12-01", "2026-01-01", "2026-02-01"],
        ["2025-11-30T10:00:00Z", "2025-12-31", "2026-01-31", "2026-02-28"],
    ],
)
def test_months_are_evenly_spaced(timestamps: list[str]) -> None:
    assert answer(timestamps=timestamps, values=[1.0, 2.0, 3.0, 4.0])["forecast"] == [4.0] * 3


def test_years_may_be_numbers() -> None:
    yearly = TASK.model_copy(update={"period": "Y"})
    assert answer(yearly, timestamps=[2000, 2001, 2002, 2003], values=[1.0, 2.0, 3.0, 4.0])
    with pytest.raises(InvalidInput, match=r"timestamps\[3\] does not follow timestamps\[2\] by 1 year"):
        answer(yearly, timestamps=[2000, 2001, 2002, 2004], values=[1.0, 2.0, 3.0, 4.0])


VALUES = [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"history": [1.0, 2.0, 3.0]}, "has 3 steps; this model needs the last 4"),
        ({"history": [1.0, 2.0, 3.0, 4.0], "horizon": 4}, "at most 3 steps"),
        ({"history": [[1.0, 2.0]] * 4}, r"history\[0\] has 2 values; expected 1"),
        ({"history": [1.0, 2.0, 3.0, 1e39]}, r"history\[3\] is beyond the range"),
        ({"timestamps": ["2026-01", "2026-02", "2026-04", "2026-05"], "values": VALUES}, r"timestamps\[2\]"),
        (
            {"timestamps": ["0001-01", "0001-01-01T00:00+14:00", "0001-02", "0001-03"], "values": VALUES},
            r"timestamps\[1\]",
        ),
        ({"timestamps": ["2026-04", "2026-03", "2026-02", "2026-01"], "values": VALUES}, "oldest first"),
        *(
            ({"timestamps": ["2026-01", text, "2026-03", "2026-04"], "values": VALUES}, "no ISO 8601 time")
            for text in (
                "soon",
                "NaT",
                "now",
                "",
                "2026-13",
                "99999999999999999999",
                7,
            )
        ),
    ],
)
def test_what_the_model_cannot_read(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        TASK.encode(request(**fields))


def test_times_with_a_zone_are_those_of_utc() -> None:
    hourly = TASK.model_copy(update={"period": "h"})
    times = ["2026-01-01T22:00Z", "2026-01-02T00:00+01:00", "2026-01-01T20:00:30-04:00", "2026-01-02T01:15"]
    assert answer(hourly, timestamps=times, values=VALUES)["forecast"] == [4.0] * 3


def test_timestamps_of_a_series_without_times() -> None:
    with pytest.raises(InvalidInput, match="have no times"):
        PAIR.encode(request(timestamps=[1, 2, 3, 4], values=[[1.0, 2.0]] * 4))


MIXED = [
    ([1.0, 2.0, [3.0], 4.0], 2, "a number"),
    ([1, [2], 3, 4.0], 1, "a number"),
    ([9.0, [9.0], 1.0, 2.0, 3.0, 4.0], 1, "a number"),  # in steps that the model does not look at
    ([[1.0], 2.0, 3.0, 4.0], 1, "a row of numbers"),
    ([[1.0], [2.0], [3.0], 4.0], 3, "a row of numbers"),
    ([[1.0, 2.0], 3.0, [1.0, 2.0], [1.0, 2.0]], 1, "a row of numbers"),
]


@pytest.mark.parametrize(("steps", "place", "form"), MIXED)
@pytest.mark.parametrize("name", ["history", "values"])
def test_numbers_and_rows_are_not_mixed(name: str, steps: list[Any], place: int, form: str) -> None:
    times = {"timestamps": list(range(2000, 2000 + len(steps)))} if name == "values" else {}
    with pytest.raises(ValidationError, match=rf"{name}\[{place}\]: expected {form}, as {name}\[0\] is"):
        request(**{name: steps}, **times)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, 2.0], [1.0], [1.0, 2.0], [1.0, 2.0]], r"^values\[1\] has 1 values; expected 2"),
        ([1.0, 2.0, 3.0, 4.0], r"^values\[0\] has 1 values; expected 2"),
        ([[1.0, 2.0]] * 3, "^values has 3 steps"),
        ([[1.0, 2.0]] * 3 + [[1.0, 1e39]], r"^values\[3\] is beyond the range"),
    ],
)
def test_errors_name_the_field_that_was_given(values: list[Any], message: str) -> None:
    yearly = PAIR.model_copy(update={"period": "Y"})
    times = list(range(2000, 2000 + len(values)))
    with pytest.raises(InvalidInput, match=message):
        yearly.encode(request(timestamps=times, values=values))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"history": [1.0, True, 2.0]},
        {"history": [[1.0], [False]]},
        {"history": [[1.0], [None]]},
        {"history": [[1.0], []]},
        {"history": [[1.0], [[2.0]]]},
        {"history": [1.0, {"v": 2.0}]},
        {"timestamps": [2000, True], "values": [1.0, 2.0]},
        {"timestamps": [2000, None], "values": [1.0, 2.0]},
        {"history": []},
        {"history": [None, 1.0]},
        {"history": ["1"]},
        {"history": [1.0, float("nan")]},
        {"history": [1.0], "values": [1.0]},
        {"timestamps": [1]},
        {"values": [1.0]},
        {"timestamps": [1, 2], "values": [1.0]},
        {"history": [1.0], "horizon": 0},
        {"history": [1.0], "interval": 0.3},
        {"history": [1.0], "interval": 1.0},
        {"history": [1.0], "steps": 3},
    ],
)
def test_requests_that_are_none(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        request(**fields)
