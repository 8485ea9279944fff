"""Tests of the four assumptions of linear regression on the training residuals.

| assumption | test | null hypothesis: the assumption holds |
|---|---|---|
| linearity | rainbow (Utts 1982), RESET (Ramsey 1969) | the middle is fitted no better; squares add nothing |
| independence | Durbin & Watson (1950) | neighbouring residuals are uncorrelated (statistic near 2) |
| homoscedasticity | Breusch & Pagan (1979), White (1980) | features do not explain the residuals' squares |
| normality | Jarque & Bera (1980), Shapiro & Wilk (1965) | the residuals are normally distributed |

If homoscedasticity fails, the usual standard errors are wrong, so heteroscedasticity-consistent ones
(HC3, MacKinnon & White 1985) are shown beside them.
"""

import warnings
from typing import Any

import numpy as np
import scipy.stats
import statsmodels.api as sm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from statsmodels.stats import diagnostic, stattools
from statsmodels.tools.sm_exceptions import SingularMatrixWarning

from training import figures
from training.report import Report, Trained
from zoo.tasks.tabular_regression import TabularRegression

ALPHA = 0.05  # significance level: a true assumption is rejected once in twenty
EXACT = 1e-20  # residual share of the target's variation that only rounding leaves, never real data
DURBIN_WATSON = (1.5, 2.5)  # the usual bounds of harmless autocorrelation


def assumptions(trained: Trained) -> Report:
    """Returns test statistics, p-values, a figure of four panels, and sections for the model card."""
    task = trained.task
    assert isinstance(task, TabularRegression)
    features, target = trained.data.train["features"], trained.data.train["target"]
    value = trained.run({"features": features.astype(np.float32)})["value"].astype(np.float64)
    standardised = (features - np.array(task.feature_mean)) / np.array(task.feature_std)
    design = sm.add_constant(standardised)
    ols = sm.OLS(target, design).fit()
    residual = target - value
    metrics = _tests(ols, design, residual)
    return Report(
        figures={"assumptions": _panels(value, residual)},
        metrics=metrics,
        sections=[_verdict(metrics), _coefficients(ols, task, trained)],
    )


def _tests(ols: Any, design: NDArray[Any], residual: NDArray[Any]) -> dict[str, float]:
    shapiro = scipy.stats.shapiro(residual)
    jarque_bera = stattools.jarque_bera(residual)
    breusch_pagan = diagnostic.het_breuschpagan(residual, design)
    metrics = {
        **_linearity(ols),
        "durbin_watson": stattools.durbin_watson(residual),
        "breusch_pagan_p": breusch_pagan[1],
        "white_p": _white_p(residual, design),
        "jarque_bera_p": jarque_bera[1],
        "shapiro_p": shapiro.pvalue,
    }
    return {name: float(value) for name, value in metrics.items()}


def _linearity(ols: Any) -> dict[str, float]:
    """Returns the p-values of the rainbow test and of RESET.

    Both are 1 if the data lie on a plane, up to rounding: the tests divide by the residual sum of squares,
    which is then 0 or noise.
    """
    if ols.ssr <= EXACT * ols.centered_tss:
        return {"rainbow_p": 1.0, "reset_p": 1.0}
    return {
        "rainbow_p": diagnostic.linear_rainbow(ols)[1],
        "reset_p": diagnostic.linear_reset(ols, power=2, use_f=True).pvalue,
    }


def _white_p(residual: NDArray[Any], design: NDArray[Any]) -> float:
    """Returns the p-value of White's test; the square of a binary feature is a redundant column in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularMatrixWarning)
        return float(diagnostic.het_white(residual, design)[1])


def _verdict(metrics: dict[str, float]) -> str:
    """Returns the section of the model card on the four assumptions."""
    low, high = DURBIN_WATSON
    independent = low < metrics["durbin_watson"] < high

    def judge(*names: str) -> str:
        failed = [name for name in names if metrics[f"{name}_p"] < ALPHA]
        values = ", ".join(f"{name.replace('_', ' ')} p = {metrics[f'{name}_p']:.3g}" for name in names)
        return f"{'**violated**' if failed else 'holds'} ({values})"

    return "\n".join(
        [
            "## The four assumptions",
            "",
            f"Tested on the training residuals; violated means p < {ALPHA}.",
            "",
            f"- Linearity: {judge('rainbow', 'reset')}. If violated, a curve would fit better.",
            f"- Independence: {'holds' if independent else '**violated**'} "
            f"(Durbin-Watson {metrics['durbin_watson']:.2f}; 2 is none, {low} to {high} is harmless).",
            f"- Homoscedasticity: {judge('breusch_pagan', 'white')}. If violated, use robust errors.",
            f"- Normality: {judge('jarque_bera', 'shapiro')}. If violated, small-sample intervals are off.",
            "",
        ]
    )


def _coefficients(ols: Any, task: TabularRegression, trained: Trained) -> str:
    """Returns the model card's table of coefficients by feature, with both kinds of standard error."""
    weight, bias = standardised_coefficients(trained)
    robust = ols.get_robustcov_results("HC3").bse
    names = ("(intercept)", *task.feature_names)
    rows = [
        f"| {name} | {coefficient:.4g} | {usual:.3g} | {hc3:.3g} |"
        for name, coefficient, usual, hc3 in zip(names, [bias, *weight], ols.bse, robust, strict=True)
    ]
    return "\n".join(
        [
            f"## Coefficients, in {task.unit or 'units of the target'} per standard deviation of the feature",
            "",
            "| feature | coefficient | standard error | robust (HC3) |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def standardised_coefficients(trained: Trained) -> tuple[NDArray[Any], float]:
    """Returns weights [F] and intercept in the target's unit, for features standardised on training data."""
    task = trained.task
    assert isinstance(task, TabularRegression)
    parameters = dict(trained.module.named_parameters())
    weight = next(p for name, p in parameters.items() if name.endswith("weight")).detach().double().numpy()
    bias = next(p for name, p in parameters.items() if name.endswith("bias")).detach().double().item()
    return weight * task.target_std, bias * task.target_std + task.target_mean


def _panels(value: NDArray[Any], residual: NDArray[Any]) -> Figure:
    """Plots residuals against predictions, normal quantiles, scale against location, and residuals by row."""
    figure, ((linear, normal), (scale, order)) = figures.new_figure(2, 2)
    standardised = residual / residual.std()
    for axis, y, title, label in (
        (linear, residual, "linearity: no trend", "residual"),
        (scale, np.sqrt(np.abs(standardised)), "homoscedasticity: level", "√|standardised residual|"),
    ):
        axis.scatter(value, y, s=10, alpha=0.5)
        smooth = sm.nonparametric.lowess(y, value, frac=0.6)
        axis.plot(smooth[:, 0], smooth[:, 1], color=figures.COLOURS[1])
        axis.set(title=title, xlabel="predicted", ylabel=label)
    linear.axhline(0, color="black", linewidth=1)
    (theory, sample), (slope, intercept, _) = scipy.stats.probplot(standardised)
    normal.scatter(theory, sample, s=10, alpha=0.5)
    normal.plot(theory, slope * theory + intercept, color=figures.COLOURS[1])
    normal.set(title="normality: on the line", xlabel="normal quantile", ylabel="residual quantile")
    order.plot(residual, linewidth=0.8)
    order.axhline(0, color="black", linewidth=1)
    order.set(title="independence: no waves", xlabel="row", ylabel="residual")
    return figure
