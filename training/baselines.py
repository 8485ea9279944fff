"""Baselines for forecasts: rules without training, autoregression, and a linear map of the window.

Each is a `Run`, like a graph, so that the same evaluation measures all of them. Each is fitted on all data
before the test split.

Sources: Box & Jenkins (1970) for autoregression, its order by Akaike's criterion (1974,
doi:10.1109/TAC.1974.1100705); Zeng et al. (2023), "Are Transformers Effective for Time Series Forecasting?",
arXiv:2205.13504, for the linear map: their DLinear splits the window into a moving average and the rest and
maps both linearly, which is one linear map of the window; here it is fitted by ridge regression.

Shape legend: T time, N windows, W window, H horizon, V variables, P order.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from training.datasets import Data
from zoo.tasks import Arrays, Run
from zoo.tasks.forecasting import Forecasting, series_of

MOST_ORDER = 30
RIDGE = 1e-3  # times the mean squared input: keeps the least squares of a long window well posed

Floats = NDArray[np.float64]


def baselines(task: Forecasting, data: Data) -> dict[str, Run]:
    """Returns the baselines by name; seasonal naive only if the window spans a season."""
    known = np.concatenate([series_of(split) for split in (data.train, data.validation) if split])
    found: dict[str, Run] = {"persistence": lambda inputs: _repeat(inputs, 1, task.horizon)}
    if 1 < task.season <= task.window:
        found["seasonal_naive"] = lambda inputs: _repeat(inputs, task.season, task.horizon)
    order, coefficients = autoregression(known.astype(np.float64), min(MOST_ORDER, task.window))
    found[f"ar{order}"] = lambda inputs: _autoregress(inputs, coefficients, task.horizon)
    weights = linear_map(known.astype(np.float64), task.window, task.horizon)
    found["linear"] = lambda inputs: _map(inputs, weights)
    return found


def autoregression(series: Floats, most: int) -> tuple[int, Floats]:
    """Fits a series [T, V]; returns the order P, at most `most`, with the lowest AIC, and its coefficients.

    All variables have the same order; each is regressed on its own past. Coefficients [V, 1 + P] begin with
    the intercept; those of the past follow, the last value first.
    """

    def fit(order: int) -> tuple[float, Floats]:
        score, rows = 0.0, []
        for column in series.T:
            lags = sliding_window_view(column[:-1], order)[
                most - order :, ::-1
            ]  # the same rows for each order
            inputs = np.column_stack([np.ones(len(lags)), lags])
            target = column[most:]
            solved, *_ = np.linalg.lstsq(inputs, target, rcond=None)
            score += len(target) * np.log(np.mean((target - inputs @ solved) ** 2) + 1e-300) + 2 * order
            rows.append(solved)
        return score, np.array(rows)

    fits = {order: fit(order) for order in range(1, most + 1)}
    best = min(fits, key=lambda order: fits[order][0])
    return best, fits[best][1]


def linear_map(series: Floats, window: int, horizon: int) -> Floats:
    """Fits a map [W, H] for all variables, from past to future distances from a window's last value."""
    squares, products = np.zeros((window, window)), np.zeros((window, horizon))
    scale = series.std(axis=0)
    for column in (series / np.where(scale > 0, scale, 1)).T:
        views = sliding_window_view(column, window + horizon)
        level = views[:, window - 1 : window]
        past, ahead = views[:, :window] - level, views[:, window:] - level
        squares += past.T @ past
        products += past.T @ ahead
    ridge = RIDGE * np.trace(squares) / window
    return np.linalg.solve(squares + ridge * np.eye(window), products)


def _repeat(inputs: Arrays, season: int, horizon: int) -> Arrays:
    last = inputs["history"][:, -season:]  # [N, season, V]
    return {"forecast": last[:, np.arange(horizon) % season]}


def _autoregress(inputs: Arrays, coefficients: Floats, horizon: int) -> Arrays:
    """Forecasts step by step; each forecast becomes part of the past of the next."""
    order = coefficients.shape[1] - 1
    past = inputs["history"][:, -order:].astype(np.float64)  # [N, P, V]
    for _ in range(horizon):
        lags = past[:, : -order - 1 : -1]  # the last value first
        ahead = coefficients[:, 0] + np.einsum("npv,vp->nv", lags, coefficients[:, 1:])
        past = np.concatenate([past, ahead[:, None]], axis=1)
    return {"forecast": past[:, -horizon:]}


def _map(inputs: Arrays, weights: Floats) -> Arrays:
    level = inputs["history"][:, -1:]
    distances = inputs["history"] - level
    return {"forecast": level + np.einsum("nwv,wh->nhv", distances, weights, optimize=True)}
