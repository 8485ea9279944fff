"""When two answers to one request count as the same."""

import math
from typing import Any

TOLERANCE = 1e-3  # relative to max(1, |expected|): float32 on another machine or provider


def agree(answer: Any, expected: Any) -> bool:
    """Whether two JSON values agree, numbers within TOLERANCE."""
    if isinstance(expected, dict):
        same_keys = isinstance(answer, dict) and answer.keys() == expected.keys()
        return same_keys and all(agree(answer[k], v) for k, v in expected.items())
    if isinstance(expected, list):
        same_length = isinstance(answer, list) and len(answer) == len(expected)
        return same_length and all(agree(a, e) for a, e in zip(answer, expected, strict=True))
    if isinstance(expected, float) and isinstance(answer, float):
        return math.isclose(answer, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(answer == expected)
