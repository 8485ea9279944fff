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


def gaussian(mean: list[float], covariance: np.ndarray, size: int = 500) -> np.ndarray:
    """Points whose sample mean and covariance are exactly these."""
    points = np.random.default_rng(7).normal(size=(size, len(mean)))
    points -= points.mean(axis=0)
    whitened = points @ np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False)).T)
    return whitened @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_between_gaussians_of_one_shape_is_that_of_their_means() -> None:
    covariance = np.array([[2.0, 0.6], [0.6, 1.0]])
    one, other = gaussian([1, 2], covariance), gaussian([4, 6], covariance)
    assert metrics.frechet_distance(one, other) == pytest.approx(25)
    assert metrics.frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_variances_that_commute() -> None:
    """Of diagonal covariances it is the squared distance of the standard deviations."""
    one, other = gaussian([0, 0], np.diag([1.0, 9.0])), gaussian([0, 0], np.diag([16.0, 4.0]))
    assert metrics.frechet_distance(one, other) == pytest.approx((1 - 4) ** 2 + (3 - 2) ** 2)


def test_frechet_distance_against_the_matrix_square_root() -> None:
    from scipy.linalg import sqrtm

    one, other = RANDOM.normal(size=(60, 5)) @ RANDOM.normal(size=(5, 5)), RANDOM.normal(size=(40, 5)) + 1
    a, b = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    shift = one.mean(axis=0) - other.mean(axis=0)
    expected = shift @ shift + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert metrics.frechet_distance(one, other) == pytest.approx(expected)
    assert metrics.frechet_distance(other, one) == pytest.approx(expected)


def test_frechet_distance_of_one_point_over_and_over() -> None:
    same = np.repeat([[3.0, 0.0]], 500, axis=0).astype(np.float32)
    assert metrics.frechet_distance(same, gaussian([0, 0], np.diag([1.0, 2.0]))) == pytest.approx(9 + 3)
    assert metrics.frechet_distance(same, same) == 0


def test_frechet_distance_of_fewer_points_than_dimensions() -> None:
    points = RANDOM.normal(size=(5, 30))
    assert 0 <= metrics.frechet_distance(points, points) < 1e-5


@pytest.mark.parametrize("neighbours", [1, 3])
def test_manifold_coverage_against_all_distances(neighbours: int) -> None:
    from scipy.spatial.distance import cdist

    reference, points = RANDOM.normal(100, 1, (80, 3)), RANDOM.normal(101, 1, (50, 3))
    radii = np.sort(cdist(reference, reference), axis=1)[:, neighbours]
    expected = (cdist(points, reference) <= radii).any(axis=1).mean()
    assert 0 < expected < 1
    assert metrics.manifold_coverage(reference, points, neighbours) == expected


def test_manifold_of_equal_points_is_that_point() -> None:
    point = np.float32([1000.1, 0.3, 7.7])
    same = np.repeat(point[None], 20, axis=0)
    others = np.stack([point, point + np.float32([0.1, 0, 0])])
    assert metrics.manifold_coverage(same, others, 3) == 0.5
