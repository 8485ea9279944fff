"""The four assumptions of linear regression, against statsmodels on a fit of its own."""

import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
from quick_training import QuickZoo
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from statsmodels.stats import diagnostic, stattools

from training import datasets, promotion
from training.diagnostics import _linearity, assumptions
from training.loop import Progress
from training.recipes import recipe_for
from training.report import Trained
from training.store import connect
from zoo import bundle
from zoo.models import linear_regression as models
from zoo.tasks import TabularRegression

REFERENCE = {"durbin_watson": (2.03, 0.005), "jarque_bera_p": (0.50, 0.005)}
REFERENCE |= {"breusch_pagan_p": (0.0035, 0.00005), "reset_p": (0.006, 0.0005)}


@pytest.fixture
def metrics(zoo: QuickZoo) -> dict[str, float]:
    result = zoo.results["linear-regression", "diabetes"]
    return dict(connect().get_run(result.run_id).data.metrics)


@pytest.fixture
def card(zoo: QuickZoo) -> str:
    result = zoo.results["linear-regression", "diabetes"]
    return bundle.load(promotion.download(result.model, result.version)).read_text("card.md")


@pytest.fixture(scope="module")
def ols() -> object:
    train = datasets.find("diabetes").load().train
    return sm.OLS(train["target"], sm.add_constant(train["features"])).fit()


def test_reference_values() -> None:
    """Published for a fit of all 442 patients."""
    data = datasets.find("diabetes").load()
    everyone = load_diabetes()
    rows = {"features": everyone.data, "target": everyone.target}
    data = replace(data, train=rows)
    exact = LinearRegression().fit(rows["features"], rows["target"])
    trained = Trained(
        recipe=recipe_for("linear-regression"),
        data=data,
        task=TabularRegression.fit(rows, data.schema),
        progress=Progress(),
        module=models.LinearRegression(models.LinearRegressionConfig(), 10),
        run=lambda inputs: {"value": exact.predict(inputs["features"].astype(float))},  # type: ignore[arg-type]
        metrics={},
        parameters=11,
    )
    metrics = assumptions(trained).metrics
    for name, (value, tolerance) in REFERENCE.items():
        assert metrics[name] == pytest.approx(value, abs=tolerance), name


def test_statistics_are_those_of_the_closed_form(metrics: dict[str, float], ols) -> None:
    expected = {
        "durbin_watson": stattools.durbin_watson(ols.resid),
        "jarque_bera_p": stattools.jarque_bera(ols.resid)[1],
        "shapiro_p": scipy.stats.shapiro(ols.resid).pvalue,
        "breusch_pagan_p": diagnostic.het_breuschpagan(ols.resid, ols.model.exog)[1],
        "rainbow_p": diagnostic.linear_rainbow(ols)[1],
        "reset_p": diagnostic.linear_reset(ols, power=2, use_f=True).pvalue,
    }
    for name, value in expected.items():
        assert metrics[f"test_{name}"] == pytest.approx(value, rel=1e-3, abs=1e-6), name
    assert 0 <= metrics["test_white_p"] <= 1


def test_the_card_names_what_is_violated(card: str) -> None:
    verdicts = dict(re.findall(r"^- (\w+): (?:\*\*)?(holds|violated)", card, re.MULTILINE))
    assert verdicts == {
        "Linearity": "violated",
        "Independence": "holds",
        "Homoscedasticity": "violated",
        "Normality": "holds",
    }
    assert "Durbin-Watson 1.79" in card  # of the 353 training rows


def test_the_card_has_both_kinds_of_errors(card: str, ols) -> None:
    scale = datasets.find("diabetes").load().train["features"].std(axis=0)
    rows = re.findall(r"^\| (\S+) \| (-?[\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", card, re.MULTILINE)
    table = {name: tuple(map(float, numbers)) for name, *numbers in rows}
    names = datasets.find("diabetes").load().schema.feature_names
    assert set(table) == {"(intercept)", *names}
    robust = ols.get_robustcov_results("HC3").bse
    for i, name in enumerate(names):
        expected = [ols.params[i + 1] * scale[i], ols.bse[i + 1] * scale[i], robust[i + 1] * scale[i]]
        assert table[name] == pytest.approx(expected, rel=6e-3), name


def test_data_on_a_plane_are_linear() -> None:
    """Whole numbers, which some processors fit without any residual."""
    rooms = np.arange(40) % 7
    area = np.arange(40)
    exact = sm.OLS(3.0 * area + 20 * rooms + 5, sm.add_constant(np.column_stack([area, rooms]))).fit()
    assert _linearity(exact) == {"rainbow_p": 1.0, "reset_p": 1.0}
    noisy = sm.OLS(3.0 * area + 1e-6 * np.sin(area) + 5, sm.add_constant(area)).fit()
    assert 0 < _linearity(noisy)["rainbow_p"] < 1
