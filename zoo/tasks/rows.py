"""Requests that consist of table rows, shared by the two tabular kinds.

Shape legend: N rows, F features.
"""

from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from zoo.errors import InvalidInput
from zoo.tasks.base import MAX_BATCH, Request

# Fails fast: a body of 33 MB can hold eight million wrong values; reporting them all takes 20 seconds.
Row = Annotated[list[float], Field(fail_fast=True)] | dict[str, float]
MAX_FEATURES = 65_536  # columns in one row
NAMED, LONGEST_NAME = 5, 64  # features that a message names, and characters of each name


class RowsRequest(Request):
    """Table rows, each a list in the model's feature order or an object by feature name."""

    max_lists: ClassVar[int] = MAX_BATCH * 64  # feature names may contain brackets

    rows: Annotated[
        list[Annotated[Row, Field(max_length=MAX_FEATURES)]],
        Field(min_length=1, max_length=MAX_BATCH, fail_fast=True),
    ]

    def without_inputs(self) -> Self:
        return self.model_copy(update={"rows": []})


def rows_to_features(rows: list[Row], names: tuple[str, ...]) -> NDArray[np.float32]:
    """Returns float32 [N, F] in the order of `names`.

    Raises `InvalidInput` that names missing or unknown features.
    """
    lists = [_in_order(index, row, names) for index, row in enumerate(rows)]
    with np.errstate(over="ignore"):
        features = np.array(lists, dtype=np.float64).astype(np.float32)
    if not np.isfinite(features).all():
        row, column = np.argwhere(~np.isfinite(features))[0]
        raise InvalidInput(f"rows[{row}]: {names[column]!r} is beyond the range of a 32-bit float")
    return features


def _in_order(index: int, row: Row, names: tuple[str, ...]) -> list[float]:
    if isinstance(row, dict):
        missing = [name for name in names if name not in row]
        unknown = [name for name in row if name not in names]
        if missing or unknown:
            named = [name[:LONGEST_NAME] for name in (missing or unknown)[:NAMED]]
            problem = f"lacks {named}" if missing else f"has unknown features {named}"
            raise InvalidInput(f"rows[{index}] {problem}; the model's features are {list(names)}")
        return [row[name] for name in names]
    if len(row) != len(names):
        raise InvalidInput(f"rows[{index}] has {len(row)} values; expected {len(names)}: {list(names)}")
    return row


def example_features(mean: tuple[float, ...], std: tuple[float, ...], batch: int) -> NDArray[np.float32]:
    """Returns float32 [batch, F] drawn around the training split's means, the same at every call."""
    noise: NDArray[np.float64] = np.random.default_rng(0).standard_normal((batch, len(mean)))
    features: NDArray[np.float32] = (np.array(mean) + noise * np.array(std)).astype(np.float32)
    return features


def fit_scaling(values: NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation (1 if constant) of each column of [N, F]."""
    std = values.std(axis=0, dtype=np.float64)
    mean = values.mean(axis=0, dtype=np.float64)
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())
