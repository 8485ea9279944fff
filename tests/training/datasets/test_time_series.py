"""Series: splits in order of time, gaps, windows that see no future, CSV files."""

import logging
from pathlib import Path

import numpy as np
import pytest
from quick_training import raw

from training.datasets.base import Data
from training.datasets.time_series import fill_gaps, load_series, spacing, split_series, windows
from zoo.errors import InvalidInput, NotFound
from zoo.tasks import Schema
from zoo.tasks.forecasting import series_of
from zoo.tasks.times import read_times

SCHEMA = Schema(feature_names=("t",))
STEPS = np.arange(100.0)[:, None]
TWO, THREE = (
    split_series("n", SCHEMA, "s", STEPS, (80, 20)),
    split_series("n", SCHEMA, "s", STEPS, (60, 20, 20)),
)


@pytest.mark.parametrize("data", [TWO, THREE])
def test_each_target_lies_in_its_split_and_follows_its_history(data: Data) -> None:
    cut = windows(data, window=7, horizon=3, validation_share=0.25)
    assert cut.validation
    for split, (first, last) in zip(
        (cut.train, cut.validation, cut.test), ((7, 60), (60, 80), (80, 100)), strict=True
    ):
        origins = split["target"][:, 0, 0]
        assert origins.tolist() == list(range(first, last - 2))
        for origin, history, target in zip(origins, split["history"], split["target"], strict=True):
            assert history[:, 0].tolist() == list(np.arange(origin - 7, origin))
            assert target[:, 0].tolist() == list(np.arange(origin, origin + 3))
    assert series_of(cut.train)[:, 0].tolist() == list(range(60))
    assert cut.digest == data.digest


def test_windows_that_no_split_holds() -> None:
    with pytest.raises(InvalidInput, match="too few for a window of 70 and a horizon of 3"):
        windows(TWO, 70, 3, 0.25)
    with pytest.raises(InvalidInput, match="horizon of 21"):
        windows(TWO, 7, 21, 0.25)
    with pytest.raises(InvalidInput, match="window of 500"):
        windows(TWO, 500, 1, 0.25)


def test_gaps_are_bridged_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        filled = fill_gaps("n", np.array([[1.0], [np.nan], [np.nan], [4.0], [np.nan]]))
    assert filled[:, 0].tolist() == [1, 2, 3, 4, 4]
    assert "3 of 5 values are missing" in caplog.text
    with pytest.raises(InvalidInput, match="without any value"):
        fill_gaps("n", np.full((3, 1), np.nan))


def test_co2_has_no_gaps_left() -> None:
    for split in (raw("co2").train, raw("co2").test):
        assert np.isfinite(split["target"]).all()
        assert np.abs(np.diff(split["target"], axis=0)).max() < 5


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["2000-01-01", "2001-01-01", "2003-01-01"], ("Y", 1, [0, 1, 3])),
        (["2000-01-31", "2000-02-29", "2000-03-31"], ("M", 1, [0, 1, 2])),
        (["2000-01-31", "2000-04-30", "2000-07-31"], ("M", 3, [0, 1, 2])),
        (["2026-01-05", "2026-01-12", "2026-01-19"], ("W", 1, [0, 1, 2])),
        (["2026-01-29", "2026-01-30", "2026-01-31", "2026-02-01"], ("D", 1, [0, 1, 2, 3])),
        (
            ["2026-01-01T22:00", "2026-01-01T23:00", "2026-01-02T00:00", "2026-01-02T03:00"],
            ("h", 1, [0, 1, 2, 5]),
        ),
        (["2026-01-01T00:00", "2026-01-01T00:15", "2026-01-01T00:30"], ("m", 15, [0, 1, 2])),
    ],
)
def test_spacing(times: list[str], expected: tuple[str, int, list[int]]) -> None:
    period, every, places = spacing(read_times(times, "times"), "n")
    assert (period, every, places.tolist()) == expected


def test_times_without_a_step() -> None:
    for times in (
        ["2026-01-01", "2026-01-01"],
        ["2026-01-01T00:00:00", "2026-01-01T00:00:07", "2026-01-01T00:00:10"],
    ):
        with pytest.raises(InvalidInput, match="not evenly spaced"):
            spacing(read_times(times, "times"), "n")


def write(path: Path, rows: list[str], header: str = "day,sales,visits") -> str:
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    return f"csv:{path}"


DAYS = [
    f"{day},{i * 1.5},{i}"
    for i, day in enumerate(np.arange("2026-01-01", "2026-03-02", dtype="datetime64[D]"))
]


def test_a_csv_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shuffled = [DAYS[i] for i in np.random.default_rng(0).permutation(60) if i != 20]
    with caplog.at_level(logging.WARNING):
        data = load_series(write(tmp_path / "Shop sales.csv", shuffled), "day", "sales,visits")
    assert (data.name, data.kind) == ("shop-sales", "forecasting")
    assert (data.schema.period, data.schema.every, data.schema.season) == ("D", 1, 7)
    assert data.schema.feature_names == ("sales", "visits")
    series = np.concatenate([data.train["target"], data.test["target"]])
    np.testing.assert_allclose(series[:, 1], np.arange(60), atol=1e-5)  # day 20 is bridged
    assert len(data.test["target"]) == 12
    assert "2 of 120 values are missing" in caplog.text


@pytest.mark.parametrize(
    ("rows", "time", "value", "message"),
    [
        (DAYS, None, "sales", "--time and --value"),
        (DAYS, "day", "profit", "--time and --value"),
        (DAYS[:10], "day", "sales", "at least 30"),
        (["soon,1,2"] * 40, "day", "sales", "no time"),
        ([*DAYS[:40], ",1,2", *DAYS[41:]], "day", "sales", "'day' of a.csv is empty in row 41"),
        ([*DAYS, "2026-03-02,many,1"], "day", "sales", "not numeric"),
    ],
)
def test_csv_files_that_do_not_fit(
    tmp_path: Path, rows: list[str], time: str | None, value: str | None, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_series(write(tmp_path / "a.csv", rows), time, value)


def test_no_such_file() -> None:
    with pytest.raises(NotFound, match="there is no file"):
        load_series("csv:nowhere.csv", "day", "sales")
