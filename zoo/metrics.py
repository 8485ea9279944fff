"""Metrics as pure functions of numpy arrays.

Shape legend: N examples, K classes, D features.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

ROUNDING = 1e-12  # a squared distance below this share of the squared norms is a rounding error
PROBABILITY_FLOOR = 1e-7  # keeps the log loss of a 0 finite (float32 cannot resolve less around 1)


def mean_squared_error(target: Floats, prediction: Floats) -> float:
    """Returns the mean squared difference over [N], in squared units of the target."""
    return float(np.mean((target - prediction) ** 2))


def mean_absolute_error(target: Floats, prediction: Floats) -> float:
    """Returns the mean absolute difference over [N], in units of the target."""
    return float(np.mean(np.abs(target - prediction)))


def r_squared(target: Floats, prediction: Floats) -> float:
    """Returns the explained share of the target's variance; predicting the mean scores 0, 1 is perfect."""
    total = np.sum((target - target.mean()) ** 2)
    return float(1 - np.sum((target - prediction) ** 2) / total)


def accuracy(target: Integers, probabilities: Floats) -> float:
    """Returns the share of rows of [N, K] whose largest probability is at the target class."""
    return float(np.mean(probabilities.argmax(axis=1) == target))


def log_loss(target: Integers, probabilities: Floats) -> float:
    """Returns the mean negative log probability of the target class in nats; arguments [N], [N, K]."""
    of_target = probabilities[np.arange(len(target)), target]
    return float(-np.mean(np.log(np.maximum(of_target, PROBABILITY_FLOOR))))


def confusion_matrix(target: Integers, prediction: Integers, classes: int) -> Integers:
    """Returns counts [K, K]: the row is the true class, the column the predicted one."""
    cells = target * classes + prediction
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def macro_f1(target: Integers, prediction: Integers, classes: int) -> float:
    """Returns the unweighted mean over classes of the harmonic mean of precision and recall.

    A class that is neither present nor predicted counts as 0, as in scikit-learn.
    """
    counts = confusion_matrix(target, prediction, classes)
    hits = np.diag(counts)
    present_and_predicted = counts.sum(axis=0) + counts.sum(axis=1)
    return float(np.mean(2 * hits / np.maximum(present_and_predicted, 1)))


def frechet_distance(one: Floats, other: Floats) -> float:
    """Returns the squared Fréchet distance between Gaussians fitted to two sets of points, [N, D] and [M, D].

    |m - n|² + tr(A + B - 2 (A B)^½), with means m, n and covariances A, B; N and M at least 2.
    """
    (m, a), (n, b) = _moments(one), _moments(other)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T  # A^½
    # A B has the eigenvalues of the symmetric A^½ B A^½, which rounding cannot make complex.
    cross = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    return max(0.0, float(np.sum((m - n) ** 2) + np.trace(a) + np.trace(b) - 2 * cross))


def manifold_coverage(reference: Floats, points: Floats, neighbours: int) -> float:
    """Returns the share of points [M, D] on the manifold of a reference [N, D], where N > `neighbours`.

    The manifold is the union of a ball around each reference point, whose radius is the distance to its k-th
    nearest neighbour. Generated points against a real reference give the precision of Kynkäänniemi et al.
    (2019, arXiv:1904.06991), real points against a generated reference the recall.
    """
    among = _squared_distances(reference, reference)
    radii = np.partition(among, neighbours, axis=1)[:, neighbours]  # index 0 is the point itself
    return float((_squared_distances(points, reference) <= radii).any(axis=1).mean())


def _moments(points: Floats) -> tuple[Floats, Floats]:
    """Returns the mean [D] and covariance [D, D] of points [N, D]."""
    mean: Floats = points.mean(axis=0, dtype=np.float64)
    centred = points - mean
    return mean, centred.T @ centred / (len(points) - 1)


def _squared_distances(rows: Floats, columns: Floats) -> Floats:
    """Returns squared distances [N, M] between [N, D] and [M, D]; exactly 0 between equal points."""
    centre = columns.mean(axis=0, dtype=np.float64)
    a, b = rows - centre, columns - centre
    norms = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)
    squared: Floats = norms - 2 * a @ b.T
    squared[squared < ROUNDING * norms] = 0
    return squared
