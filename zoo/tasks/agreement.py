"""Comparison of answers: equality of two answers to one request, similarity of those of two versions.

Shape legend: N examples, K classes.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-3  # relative to max(1, |expected|): float32 on another machine or provider
ALIKE = 0.1  # share of the target's standard deviation on the training split


def agree(answer: Any, expected: Any) -> bool:
    """Returns True if two JSON values are equal, with numbers compared within TOLERANCE."""
    if isinstance(expected, dict):
        same_keys = isinstance(answer, dict) and answer.keys() == expected.keys()
        return same_keys and all(agree(answer[k], v) for k, v in expected.items())
    if isinstance(expected, list):
        same_length = isinstance(answer, list) and len(answer) == len(expected)
        return same_length and all(agree(a, e) for a, e in zip(answer, expected, strict=True))
    if isinstance(expected, float) and isinstance(answer, float):
        return math.isclose(answer, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(answer == expected)


def alike_labels(
    probabilities: NDArray[Any], labels: Sequence[str], others: NDArray[Any], other_labels: Sequence[str]
) -> NDArray[np.bool_]:
    """Returns for each of N examples True if two versions' probabilities [N, K] favour the same label."""
    ours, theirs = np.array(labels)[probabilities.argmax(axis=1)], others.argmax(axis=1)
    same: NDArray[np.bool_] = ours == np.array(other_labels)[theirs]
    return same


def alike_values(values: NDArray[Any], others: NDArray[Any], deviation: Sequence[float]) -> NDArray[np.bool_]:
    """Returns for each of N examples True if all its values are close to the other version's.

    Values [N, ...] are close within ALIKE times `deviation`, the standard deviations along the last axis.
    """
    near = np.abs(values - others) <= ALIKE * np.array(deviation)
    everywhere: NDArray[np.bool_] = near.reshape(len(values), -1).all(axis=1)
    return everywhere
