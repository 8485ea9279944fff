"""Distributions of training inputs. A bundle carries them; serving compares those of requests with them.

Bins are cut at quantiles of the training split, deciles if it is large. A value that makes up two or more
quantiles, such as the code of a category, has a bin of its own; the bins below, between and above such values
count new values.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_NUMBERS = 256
"""Maximum number of values that are kept of a row of inputs for the comparison."""
ROWS_A_BIN, FEWEST_BINS, MOST_BINS = 100, 4, 10
"""Training rows per bin, and the limits of the number of bins.

With fewer rows per bin, chance alone makes two samples look different.
"""


def distribution(values: NDArray[Any]) -> dict[str, list[float]]:
    """Returns the inner bin edges, as float32 values, and the share of values [N] in each bin.

    A bin includes its lower edge and excludes its upper edge.
    """
    exact = values.astype(np.float32)
    bins = min(max(len(exact) // ROWS_A_BIN, FEWEST_BINS), MOST_BINS)
    quantiles = np.quantile(exact, np.arange(1, bins) / bins, method="inverted_cdf")
    found, times = np.unique(quantiles, return_counts=True)
    edges = np.union1d(found, np.nextafter(found[times > 1], np.float32(np.inf)))
    return {"edges": edges.tolist(), "shares": (binned(exact, edges) / len(exact)).tolist()}


def binned(values: NDArray[Any], edges: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns the number of values [N] in each of the bins [B] between ascending edges [B - 1]."""
    places = np.searchsorted(edges, values.astype(np.float32, copy=False), side="right")
    return np.bincount(places, minlength=len(edges) + 1)


def feature_baseline(features: NDArray[Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Returns the distribution of each column of [N, F], by name."""
    return {name: distribution(column) for name, column in zip(names, features.T, strict=True)}


def places_of(length: int, most: int) -> NDArray[np.int64]:
    """Returns `most` evenly spaced positions in a sequence of any length; they repeat if it is shorter."""
    return np.linspace(0, length - 1, most).astype(np.int64)
