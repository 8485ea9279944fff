"""Time series as data sets: splits, missing values, windows, and any CSV file with a column of times.

A split holds `target` [T, V], the values of the series; `windows` makes a graph's `history` and `target` from
them. The splits are consecutive in time, and everything that is fitted uses the first one only.

Shape legend: T time, V variables, N windows, W window, H horizon.
"""

import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from training import datasets
from training.datasets.base import Data, slug
from training.datasets.csv_file import PREFIX, read_table
from zoo.errors import InvalidInput
from zoo.tasks import Arrays, Schema
from zoo.tasks.times import Times, read_times

if TYPE_CHECKING:
    from pandas import Series

log = logging.getLogger(__name__)
KIND = "forecasting"
TEST_SHARE = 0.2  # the end of a CSV file
MIN_STEPS = 30  # in a CSV file: fewer are not enough to train, calibrate and test
USUAL = 0.5  # minimum share of steps between times that equal the shortest one: the others are gaps
SEASONS = {"M": 12, "W": 52, "D": 7, "h": 24, "m": 1440, "s": 1}  # in steps of one unit of time
OFFSET = re.compile(r"(:\d\d(?:[.,]\d+)?) ?(?:[+-]\d\d:?\d\d|Z|UTC|GMT)$")  # UTC offset after a time of day


def split_series(name: str, schema: Schema, source: str, values: NDArray[Any], sizes: Sequence[int]) -> Data:
    """Splits a series [T, V] into training, validation (if there are three sizes) and test, in this order."""
    filled = fill_gaps(name, values)
    ends = np.cumsum(sizes)
    train, *between, test = (
        {"target": part} for part in np.split(filled.astype(np.float32)[: ends[-1]], ends[:-1])
    )
    return Data(name, KIND, schema, source, train, test, between[0] if between else None)


def fill_gaps(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    """Interpolates missing values of [T, V] linearly and logs their number.

    `InvalidInput` if a column has no value.
    """
    filled = values.astype(np.float64)
    missing = np.isnan(filled)
    if missing.any():
        log.warning("%s: %d of %d values are missing, and interpolated", name, missing.sum(), missing.size)
        steps = np.arange(len(filled))
        for column, gone in zip(filled.T, missing.T, strict=True):
            if gone.all():
                raise InvalidInput(f"{name} has a column without any value")
            column[gone] = np.interp(steps[gone], steps[~gone], column[~gone])
    return filled


def windows(data: Data, window: int, horizon: int, validation_share: float) -> Data:
    """Returns every window of each split: `history` [N, W, V] and the `target` [N, H, V] that follows it.

    Targets lie entirely within their split; the first histories reach back into the previous split. If the
    data have no validation split, the end of the training split is held out. The arrays are views.
    """
    if window < 1 or horizon < 1:
        raise InvalidInput("a window and a horizon have at least one step each")
    train, validation = data.train["target"], (data.validation or {}).get("target")
    if validation is None:
        held = round(len(train) * validation_share)
        train, validation = train[: len(train) - held], train[len(train) - held :]
    parts = [part for part in (train, validation, data.test["target"]) if len(part)]
    ends = np.cumsum([len(part) for part in parts])
    spans = [
        (max(start - window, 0), end - horizon - window + 1)  # range of the histories' first steps
        for start, end in zip([window, *ends[:-1]], ends, strict=True)
    ]
    for part, (first, last) in zip(parts, spans, strict=True):
        if last <= first:
            raise InvalidInput(
                f"a split of {data.name} has {len(part)} steps, too few for a window of {window} and a "
                f"horizon of {horizon}: take shorter ones"
            )
    views = sliding_window_view(np.concatenate(parts), window + horizon, axis=0, writeable=True)
    views = views.transpose(0, 2, 1)  # [N, V, W + H] -> [N, W + H, V]
    cut: list[Arrays] = [
        {"history": views[first:last, :window], "target": views[first:last, window:]} for first, last in spans
    ]
    train_windows, *between, test_windows = cut
    held_out = between[0] if between else None
    return replace(data, train=train_windows, validation=held_out, test=test_windows, held_out_of=data.digest)


def load_series(reference: str, time: str | None, value: str | None) -> Data:
    """Loads the data set with this name, or `csv:PATH` with columns of times and values (comma-separated)."""
    if not reference.startswith(PREFIX):
        return datasets.find(reference).load()
    path, table = read_table(reference)
    names = [] if value is None else value.split(",")
    columns = list(table.columns)
    if time not in columns or not names or any(name not in columns for name in names):
        raise InvalidInput(f"name the columns with --time and --value; {path.name} has {columns}")
    if words := [name for name in names if table[name].dtype.kind not in "iuf"]:
        raise InvalidInput(f"these columns of {path.name} are not numeric: {words}")
    if (missing := table[time].isna().to_numpy()).any():
        raise InvalidInput(f"{time!r} of {path.name} is empty in row {missing.argmax() + 1} of the data")
    try:
        times = times_of(table[time].astype(str))
    except ValueError as error:
        raise InvalidInput(f"{time!r} of {path.name} holds something that is no time: {error}") from error
    name = slug(path.stem, "csv")
    period, every, places = spacing(times, path.name)
    complete = np.full((places.max() + 1, len(names)), np.nan)
    complete[places] = table[names].to_numpy(dtype=np.float64)
    if len(complete) < MIN_STEPS:
        raise InvalidInput(f"{path.name} has {len(complete)} steps; at least {MIN_STEPS} are needed")
    season = max(1, SEASONS.get(period, 1) // every)
    schema = Schema(feature_names=tuple(names), every=every, period=period, season=season)
    test = round(len(complete) * TEST_SHARE)
    return split_series(name, schema, path.name, complete, (len(complete) - test, test))


def times_of(texts: "Series[str]") -> Times:
    """Parses times in the format of requests, or else in one that pandas knows; `ValueError` if neither."""
    import pandas as pd

    try:
        return read_times(texts.tolist(), "times")
    except InvalidInput:
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pandas warns that it parses each time separately
        utc, clock = (
            pd.to_datetime(column, utc=True).dt.tz_localize(None).to_numpy().astype("datetime64[s]")
            for column in (texts, texts.str.replace(OFFSET, r"\1", regex=True))
        )
    return Times(clock, utc)


def spacing(times: Times, name: str) -> tuple[str, int, NDArray[np.int64]]:
    """Returns the unit of time, the number of units per step, and each time's index [T] among the steps.

    Uses the coarsest unit in which the times are evenly spaced, except for gaps. `InvalidInput` if there is
    none.
    """
    for period in ("Y", "M", "W", "D", "h", "m", "s"):
        places = times.counted(period)
        ordered: NDArray[np.int64] = np.sort(places)
        steps = np.diff(ordered)
        every = int(steps.min()) if len(steps) else 0
        if every > 0 and not (steps % every).any() and np.mean(steps == every) >= USUAL:
            return period, every, (places - places.min()) // every
    raise InvalidInput(f"the times of {name} are not evenly spaced, or some come twice")
