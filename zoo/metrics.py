"""Metrics as pure functions of numpy arrays.

Shape legend: N examples, K classes.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

PROBABILITY_FLOOR = 1e-7  # keeps the log loss of a hard 0 finite (float32 cannot resolve less around 1)


def mean_squared_error(target: Floats, prediction: Floats) -> float:
    """Mean of squared differences over [N], in squared units of the target."""
    return float(np.mean((target - prediction) ** 2))


def mean_absolute_error(target: Floats, prediction: Floats) -> float:
    """Mean of absolute differences over [N], in units of the target."""
    return float(np.mean(np.abs(target - prediction)))


def r_squared(target: Floats, prediction: Floats) -> float:
    """Share of the target's variance explained; 0 is the mean's own score, 1 is perfect."""
    total = np.sum((target - target.mean()) ** 2)
    return float(1 - np.sum((target - prediction) ** 2) / total)


def accuracy(target: Integers, probabilities: Floats) -> float:
    """Share of rows of [N, K] whose largest probability is at the target class."""
    return float(np.mean(probabilities.argmax(axis=1) == target))


def log_loss(target: Integers, probabilities: Floats) -> float:
    """Mean negative log probability, in nats, of the target class; [N], [N, K]."""
    of_target = probabilities[np.arange(len(target)), target]
    return float(-np.mean(np.log(np.maximum(of_target, PROBABILITY_FLOOR))))


def confusion_matrix(target: Integers, prediction: Integers, classes: int) -> Integers:
    """Counts [K, K]: row is the true class, column the predicted one."""
    cells = target * classes + prediction
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def macro_f1(target: Integers, prediction: Integers, classes: int) -> float:
    """Unweighted mean over classes of the harmonic mean of precision and recall.

    A class that is neither present nor predicted counts as 0, as in scikit-learn.
    """
    counts = confusion_matrix(target, prediction, classes)
    hits = np.diag(counts)
    present_and_predicted = counts.sum(axis=0) + counts.sum(axis=1)
    return float(np.mean(2 * hits / np.maximum(present_and_predicted, 1)))
