"""Forecasting: the last values of one or several variables to the next ones, each with an interval.

Intervals are split conformal (Lei et al. 2018, "Distribution-Free Predictive Inference for Regression",
doi:10.1080/01621459.2017.1307116): for each step ahead and each variable, quantiles of the absolute errors on
the validation windows. Their coverage of later values is not guaranteed, as time series change; it is
measured on the test split.

Shape legend: N windows, W window (steps of history), H horizon (steps ahead), V variables, L levels.
"""

import math
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from zoo import metrics
from zoo.errors import InvalidInput, ZooError
from zoo.tasks.agreement import alike_values
from zoo.tasks.base import Arrays, Axis, Request, Response, Run, Schema, Task, run_in_batches
from zoo.tasks.baseline import MOST_NUMBERS, feature_baseline, places_of
from zoo.tasks.rows import fit_scaling
from zoo.tasks.times import read_times

MAX_HISTORY = 65_536  # steps in one request
MAX_HORIZON = 65_536
MAX_VARIABLES = 1024
OBSERVED_STEPS = 16  # steps of a history to compare with the training split's
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Shares of the true values that intervals are to cover; intervals for levels between are interpolated."""
REPORTED = (0.8, 0.95)
"""Levels whose coverage is measured on the test split."""
UNITS = {"Y": "year", "M": "month", "W": "week", "D": "day", "h": "hour", "m": "minute", "s": "second"}

Floats = NDArray[np.floating]
Row = Annotated[list[float], Field(min_length=1, max_length=MAX_VARIABLES, fail_fast=True)]
Values = Annotated[list[float | Row], Field(min_length=1, max_length=MAX_HISTORY, fail_fast=True)]


class ForecastRequest(Request):
    """Past values, oldest first: `history`, or `values` with their `timestamps`."""

    max_lists: ClassVar[int] = MAX_HISTORY + 1024

    history: Annotated[
        Values | None, Field(description="Numbers, or one row of numbers a step, of several variables.")
    ] = None
    timestamps: Annotated[
        list[str | int] | None,
        Field(
            min_length=1,
            max_length=MAX_HISTORY,
            fail_fast=True,
            description="ISO 8601, or years as numbers; evenly spaced as the model's data are.",
        ),
    ] = None
    values: Annotated[Values | None, Field(description="One for each timestamp, as in `history`.")] = None
    horizon: Annotated[
        int | None,
        Field(ge=1, le=MAX_HORIZON, description="Steps ahead; the model's own where none is given."),
    ] = None
    interval: Annotated[
        float, Field(ge=0.5, le=0.99, description="Share of the truth that intervals are to cover.")
    ] = 0.9

    @model_validator(mode="after")
    def _one_past(self) -> Self:
        if (self.history is None) == (self.values is None) or (self.timestamps is None) != (
            self.values is None
        ):
            raise ValueError("give either history, or timestamps and values")
        if self.timestamps is not None and self.values is not None:
            given = len(self.timestamps), len(self.values)
            if given[0] != given[1]:
                raise ValueError(f"there are {given[0]} timestamps for {given[1]} values")
        return self

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        name, steps = self.past
        rows = isinstance(steps[0], list)
        other = next((i for i, step in enumerate(steps) if isinstance(step, list) != rows), None)
        if other is not None:
            form = "a row of numbers" if rows else "a number"
            raise ValueError(f"{name}[{other}]: expected {form}, as {name}[0] is")
        return self

    def without_inputs(self) -> Self:
        name, steps = self.past
        return self.model_copy(update={"timestamps": None, name: steps[:1]})

    @property
    def past(self) -> tuple[str, list[float | Row]]:
        """Name of the field that holds the past values, and its steps."""
        if self.history is not None:
            return "history", self.history
        return "values", self.values or []


class ForecastResponse(Response):
    """Forecast of the steps ahead; rows of numbers if the history had rows."""

    forecast: list[float] | list[list[float]]
    lower: list[float] | list[list[float]]
    upper: list[float] | list[list[float]]


class Forecasting(Task):
    """Graph: `history` float32 [N, W, V] in its own units -> `forecast` float32 [N, H, V] in the same units.

    The graph takes any W that `multiple` divides; a request's history is cut to its last `window` steps.
    """

    kind: Literal["forecasting"] = "forecasting"
    variables: tuple[str, ...]
    unit: str
    every: int
    """Time between two steps, in units of `period`."""
    period: Literal["", "Y", "M", "W", "D", "h", "m", "s"]
    """numpy's code of a unit of time; empty if the steps have no times."""
    season: int
    """Season length in steps: the lag at which the series is most similar to itself; 1 for no season."""
    window: int
    horizon: int
    multiple: int = 1
    """Divisor of every W that the graph takes. Not a statistic of the data: a recipe may choose it."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    naive_error: tuple[float, ...]
    """Mean absolute error [V] of the value one season ago, within the training split: the unit of MASE."""
    radii: tuple[tuple[tuple[float, ...], ...], ...] = ()
    """Half the width of the interval [L, H, V] for each of LEVELS; empty before `calibrated`."""

    endpoint: ClassVar[str] = "/forecast"
    payload: ClassVar[str | None] = "history"
    primary_metric: ClassVar[str] = "mase"
    higher_is_better: ClassVar[bool] = False
    request_type: ClassVar[type[ForecastRequest]] = ForecastRequest
    response_type: ClassVar[type[Response]] = ForecastResponse
    inputs: ClassVar[tuple[str, ...]] = ("history",)
    outputs: ClassVar[tuple[str, ...]] = ("forecast",)

    @classmethod
    def fit(cls, train: Arrays, schema: Schema) -> Self:
        """Fits to `train`: `history` [N, W, V] and `target` [N, H, V] of consecutive windows."""
        series = series_of(train)
        mean, std = fit_scaling(series)
        season = schema.season if schema.season < len(series) else 1
        naive = np.abs(series[season:] - series[:-season]).mean(axis=0, dtype=np.float64)
        return cls(
            variables=schema.feature_names,
            unit=schema.unit,
            every=schema.every,
            period=schema.period,
            season=season,
            window=train["history"].shape[1],
            horizon=train["target"].shape[1],
            mean=mean,
            std=std,
            naive_error=tuple(np.where(naive > 0, naive, 1.0).tolist()),
        )

    def calibrated(self, run: Run, held_out: Arrays) -> Self:
        """Returns the task with intervals that cover the shares LEVELS of these windows' [N] true values."""
        errors = np.abs(self.forecasts(run, held_out) - held_out["target"])  # [N, H, V]
        count = len(errors)
        # The next error is the (n + 1)-th: this share of the n errors covers it with the level's probability.
        shares = [min(1.0, math.ceil((count + 1) * level) / count) for level in LEVELS]
        radii = np.quantile(errors, shares, axis=0, method="inverted_cdf")  # [L, H, V]
        return self.model_copy(
            update={"radii": tuple(tuple(tuple(row) for row in level) for level in radii.tolist())}
        )

    def encode(self, request: ForecastRequest) -> Arrays:
        name, steps = request.past
        if request.timestamps is not None:
            self._check_times(request.timestamps)
        if request.horizon is not None and request.horizon > self.horizon:
            raise InvalidInput(f"horizon: this model forecasts at most {self.horizon} steps")
        rows = [step if isinstance(step, list) else [step] for step in steps]
        wrong = next((i for i, row in enumerate(rows) if len(row) != len(self.variables)), None)
        if wrong is not None:
            raise InvalidInput(
                f"{name}[{wrong}] has {len(rows[wrong])} values; expected {len(self.variables)}: "
                f"{list(self.variables)}"
            )
        if len(rows) < self.window:
            raise InvalidInput(f"{name} has {len(rows)} steps; this model needs the last {self.window}")
        with np.errstate(over="ignore"):
            history = np.array(rows[-self.window :], dtype=np.float64).astype(np.float32)
        if not np.isfinite(history).all():
            step = len(rows) - self.window + int(np.argwhere(~np.isfinite(history))[0, 0])
            raise InvalidInput(f"{name}[{step}] is beyond the range of a 32-bit float")
        return {"history": history[None]}

    def decode(self, request: ForecastRequest, outputs: Arrays) -> dict[str, Any]:
        steps = request.horizon or self.horizon
        forecast = outputs["forecast"][0, :steps].astype(np.float64)  # [H, V]
        radius = self.radius(request.interval)[:steps]
        rows = isinstance(request.past[1][0], list)
        answer = {"forecast": forecast, "lower": forecast - radius, "upper": forecast + radius}
        return {name: (array if rows else array[:, 0]).tolist() for name, array in answer.items()}

    def alike(self, outputs: Arrays, other: Self, others: Arrays) -> NDArray[np.bool_]:
        """Returns for each history True if the values of all steps are about the same."""
        return alike_values(outputs["forecast"], others["forecast"], self.std)

    def request_for(self, examples: Arrays, model: str) -> dict[str, Any]:
        """Returns a request for one window: a request has only one history."""
        if len(examples["history"]) != 1:
            raise InvalidInput("a request asks for the future of one history")
        # The shortest decimal form of each float32: 5.827, not 5.827000141143799.
        rows = [[float(str(value)) for value in row] for row in examples["history"][0].astype(np.float32)]
        single = len(self.variables) == 1
        return {"model": model, "history": [row[0] for row in rows] if single else rows}

    def example_inputs(self, batch: int) -> Arrays:
        noise = np.random.default_rng(0).standard_normal((batch, self.window, len(self.variables)))
        return {"history": (np.array(self.mean) + noise * np.array(self.std)).astype(np.float32)}

    def varying_axes(self) -> dict[str, Axis]:
        return {"history": Axis(1, "window", self.multiple, self.multiple)}

    def evaluate(self, run: Run, split: Arrays) -> dict[str, float]:
        """Returns metrics over all windows, steps ahead and variables.

        `scaled_mse` is in units of the training split's variance.
        """
        forecast, target = self.forecasts(run, split), split["target"].astype(np.float64)
        errors = np.abs(forecast - target)  # [N, H, V]
        mse = metrics.mean_squared_error(target, forecast)
        values = {
            "mase": float((errors.mean(axis=(0, 1)) / np.array(self.naive_error)).mean()),
            "mae": float(errors.mean()),
            "rmse": mse**0.5,
            "scaled_mse": float(((errors / np.array(self.std)) ** 2).mean()),
        }
        if self.radii:
            covered = {level: errors <= self.radius(level) for level in REPORTED}
            values |= {f"coverage_{level:.0%}".rstrip("%"): float(c.mean()) for level, c in covered.items()}
        return values

    def baseline(self, train: Arrays) -> dict[str, Any]:
        return feature_baseline(series_of(train), self.variables)

    def observed_names(self) -> tuple[str, ...]:
        return self.variables[: MOST_NUMBERS // OBSERVED_STEPS]

    def observed(self, asked: NDArray[Any]) -> NDArray[Any]:
        """Returns values at evenly spaced steps of each history."""
        places = places_of(asked.shape[1], OBSERVED_STEPS)
        return asked[:, places, : MOST_NUMBERS // OBSERVED_STEPS].swapaxes(1, 2)  # [N, V, P]

    def forecasts(self, run: Run, split: Arrays) -> NDArray[np.float64]:
        """Returns the forecasts [N, H, V] for a split's histories."""
        history = split["history"].astype(np.float32, copy=False)
        return run_in_batches(run, {"history": history})["forecast"].astype(np.float64)

    def radius(self, level: float) -> Floats:
        """Returns half the interval's width [H, V] at any level; raises `ZooError` before `calibrated`."""
        if not self.radii:
            raise ZooError("this task has no intervals: they are measured once a model is trained")
        radii = np.array(self.radii)
        above = min(int(np.searchsorted(LEVELS, level)), len(LEVELS) - 1)
        below = max(above - 1, 0)
        span = LEVELS[above] - LEVELS[below]
        share = (level - LEVELS[below]) / span if span else 0.0
        radius: Floats = (1 - share) * radii[below] + share * radii[above]
        return radius

    def _check_times(self, timestamps: list[str | int]) -> None:
        """Raises `InvalidInput` if timestamps cannot be read or are not spaced as the model's data are."""
        if not self.period:
            raise InvalidInput("timestamps: this model's data have no times; give history alone")
        times = read_times([str(time) for time in timestamps], "timestamps")
        steps = np.diff(times.counted(self.period))
        if (uneven := np.flatnonzero(steps != self.every)).size:
            index = int(uneven[0])
            unit = UNITS[self.period] + "s" * (self.every != 1)
            raise InvalidInput(
                f"timestamps[{index + 1}] does not follow timestamps[{index}] by {self.every} {unit}: "
                "give every step, oldest first"
            )


def series_of(train: Arrays) -> Floats:
    """Returns the series [T, V] from which consecutive windows were cut, one step apart."""
    history, target = train["history"], train["target"]
    series: Floats = np.concatenate([history[0], target[:, 0], target[-1, 1:]])
    return series
