"""Metrics against scikit-learn's."""

import numpy as np
import pytest
import sklearn.metrics as reference

from zoo import metrics

RANDOM = np.random.default_rng(0)
VALUES, GUESSES = RANDOM.normal(50, 20, 200), RANDOM.normal(50, 20, 200)
CLASSES = 5
TARGET = RANDOM.integers(0, CLASSES, 200)
PROBABILITIES = RANDOM.dirichlet(np.ones(CLASSES), 200)
LABELS = list(range(CLASSES))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (metrics.mean_squared_error, reference.mean_squared_error),
        (metrics.mean_absolute_error, reference.mean_absolute_error),
        (metrics.r_squared, reference.r2_score),
    ],
)
def test_regression(ours, theirs) -> None:
    assert ours(VALUES, GUESSES) == pytest.approx(theirs(VALUES, GUESSES), rel=1e-12)
    assert ours(VALUES, VALUES + 1e-3) == pytest.approx(theirs(VALUES, VALUES + 1e-3), rel=1e-9)


def test_classification() -> None:
    prediction = PROBABILITIES.argmax(axis=1)
    assert metrics.accuracy(TARGET, PROBABILITIES) == reference.accuracy_score(TARGET, prediction)
    assert metrics.log_loss(TARGET, PROBABILITIES) == pytest.approx(
        reference.log_loss(TARGET, PROBABILITIES, labels=LABELS)
    )
    ours = metrics.macro_f1(TARGET, prediction, CLASSES)
    assert ours == pytest.approx(reference.f1_score(TARGET, prediction, average="macro"))
    np.testing.assert_array_equal(
        metrics.confusion_matrix(TARGET, prediction, CLASSES), reference.confusion_matrix(TARGET, prediction)
    )


def test_classes_that_do_not_occur() -> None:
    target, prediction = np.array([0, 0, 1]), np.array([0, 2, 1])
    ours = metrics.macro_f1(target, prediction, CLASSES)
    theirs = reference.f1_score(target, prediction, average="macro", labels=LABELS, zero_division=0)
    assert ours == pytest.approx(theirs)
    expected = reference.confusion_matrix(target, prediction, labels=LABELS)
    np.testing.assert_array_equal(metrics.confusion_matrix(target, prediction, CLASSES), expected)


def test_log_loss_of_certainties_is_finite() -> None:
    certain = np.eye(2, dtype=np.float32)
    assert metrics.log_loss(np.array([0, 1]), certain) == 0
    assert metrics.log_loss(np.array([1, 0]), certain) == pytest.approx(-np.log(1e-7))
