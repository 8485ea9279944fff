"""Report on a forecasting model: its errors beside those of baselines, and forecasts against the truth.

The evaluation has a rolling origin: a forecast from every step of the test split, each of which knows all
values before it.
"""

import numpy as np

from training import figures
from training.baselines import baselines
from training.report import Report, Trained
from zoo.tasks import Run
from zoo.tasks.forecasting import Forecasting

INTERVAL = 0.9  # coverage of the intervals in the figure
SHOWN = 4  # variables in the figure
MOST_STEPS = 400  # maximum steps in the figure, which shows the last ones
COMPARED = ("mase", "mae", "rmse", "scaled_mse")


def add_forecasts(reported: Report, trained: Trained) -> None:
    """Adds figures, the metrics of the baselines, and a table of both for the model card."""
    task, test = trained.task, trained.data.test
    assert isinstance(task, Forecasting)
    rivals = baselines(task, trained.data)
    measured = {name: task.evaluate(run, test) for name, run in rivals.items()}
    for name, values in measured.items():
        reported.metrics |= {f"{name}_{metric}": values[metric] for metric in COMPARED}
    rows = {trained.recipe.architecture: trained.metrics, **measured}
    table = [
        f"| {name} | " + " | ".join(f"{values[metric]:.4g}" for metric in COMPARED) + " |"
        for name, values in rows.items()
    ]
    heads = f"| forecast | {' | '.join(COMPARED)} |", f"|---|{'---|' * len(COMPARED)}"
    unit = f" in {task.unit}" if task.unit else ""
    reported.sections += [
        "## Against simpler forecasts",
        "",
        f"Errors{unit} over {len(test['target']):,} origins, {task.horizon} steps ahead from each.",
        "",
        *heads,
        *table,
        "",
    ]
    last = len(test["target"]) - 1
    every = slice(last % task.horizon, None, task.horizon)  # origins without overlapping forecasts
    origins = {name: array[every] for name, array in test.items()}
    forecast = task.forecasts(trained.run, origins)
    radius = np.broadcast_to(task.radius(INTERVAL), forecast.shape)
    truth, ahead, half = (
        steps.reshape(-1, len(task.variables))[-MOST_STEPS:]
        for steps in (origins["target"], forecast, radius)
    )
    names = task.variables[:SHOWN]
    reported.figures["forecast"] = figures.forecasts(truth, ahead, half, names, task.unit, INTERVAL)
    if task.horizon > 1:
        runs: dict[str, Run] = {trained.recipe.architecture: trained.run, **rivals}
        scaled = {
            name: (task.forecasts(run, test) - test["target"]) / np.array(task.std)
            for name, run in runs.items()
        }
        errors = {name: np.sqrt((error**2).mean(axis=(0, 2))) for name, error in scaled.items()}  # [H]
        reported.figures["error_by_step"] = figures.error_by_step(errors)
