"""Baselines against what is known of them."""

import numpy as np
import pytest
from quick_training import raw

from training.baselines import autoregression, baselines, linear_map
from training.datasets.time_series import split_series, windows
from zoo.tasks import Arrays, Schema
from zoo.tasks.forecasting import Forecasting


def measured(name: str, window: int, horizon: int) -> dict[str, dict[str, float]]:
    data = windows(raw(name), window, horizon, 0.15)
    task = Forecasting.fit(data.train, data.schema)
    return {key: task.evaluate(run, data.test) for key, run in baselines(task, data).items()}


def test_sunspots_are_forecast_as_well_as_the_literature_says() -> None:
    """One step ahead over the last 62 years: 33.28, 37.86 and, of order 9, 19.44."""
    found = measured("sunspots", 22, 1)
    assert found["persistence"]["rmse"] == pytest.approx(33.28, abs=0.005)
    assert found["seasonal_naive"]["rmse"] == pytest.approx(37.86, abs=0.005)
    assert found["ar9"]["rmse"] == pytest.approx(19.44, abs=0.1)
    assert found["linear"]["rmse"] == pytest.approx(found["ar9"]["rmse"], rel=0.02)


def test_an_autoregressive_series_gives_its_own_coefficients() -> None:
    random = np.random.default_rng(0)
    series = np.zeros((20_000, 2))
    for t in range(2, len(series)):
        series[t] = 1 + 0.6 * series[t - 1] - [0.3, 0.2] * series[t - 2] + random.normal(size=2)
    order, coefficients = autoregression(series, 6)
    assert order >= 2
    np.testing.assert_allclose(coefficients[:, :3], [[1, 0.6, -0.3], [1, 0.6, -0.2]], atol=0.06)
    np.testing.assert_allclose(coefficients[:, 3:], 0, atol=0.03)


def test_a_straight_line_goes_on() -> None:
    line = np.arange(300.0)[:, None] * [1, -3] + [5, 900]
    data = windows(
        split_series("n", Schema(feature_names=("a", "b"), season=4), "s", line, (240, 60)), 8, 5, 0.2
    )
    task = Forecasting.fit(data.train, data.schema)
    runs = baselines(task, data)
    inputs: Arrays = {"history": data.test["history"][:3]}
    target = data.test["target"][:3]
    (autoregressive,) = [run for name, run in runs.items() if name.startswith("ar")]
    for run in (autoregressive, runs["linear"]):
        np.testing.assert_allclose(run(inputs)["forecast"], target, rtol=1e-2)
    np.testing.assert_array_equal(runs["persistence"](inputs)["forecast"][:, 4], inputs["history"][:, -1])
    season = runs["seasonal_naive"](inputs)["forecast"]
    np.testing.assert_array_equal(season[:, [0, 1, 4]], inputs["history"][:, [-4, -3, -4]])


def test_the_linear_map_is_shared_by_all_variables() -> None:
    random = np.random.default_rng(0)
    wave = np.sin(np.arange(600) / 5)[:, None] + 0.01 * random.normal(size=(600, 3))
    assert linear_map(wave, 20, 4).shape == (20, 4)
    scaled = linear_map(wave * [1, 100, 1], 20, 4)
    np.testing.assert_allclose(scaled, linear_map(wave, 20, 4), atol=1e-6)
