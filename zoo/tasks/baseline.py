"""Distributions of training inputs, which a bundle carries, and with which those of requests are compared.

A number is counted by quantiles of the training split, deciles where that is large. A value that makes two
of them, as that of a category does, has a bin of its own; below, between and above such values there are bins
for what is new.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_NUMBERS = 256
"""Numbers that are kept of a row of inputs to compare them, at most."""
ROWS_A_BIN, FEWEST_BINS, MOST_BINS = 100, 4, 10
"""With fewer training rows a bin, chance alone makes two samples look different."""


def distribution(values: NDArray[Any]) -> dict[str, list[float]]:
    """Inner bin edges, as float32 has them, and the share of values [N] in each bin.

    A bin begins with the edge below it, and ends before the one above.
    """
    exact = values.astype(np.float32)
    bins = min(max(len(exact) // ROWS_A_BIN, FEWEST_BINS), MOST_BINS)
    quantiles = np.quantile(exact, np.arange(1, bins) / bins, method="inverted_cdf")
    found, times = np.unique(quantiles, return_counts=True)
    edges = np.union1d(found, np.nextafter(found[times > 1], np.float32(np.inf)))
    return {"edges": edges.tolist(), "shares": (binned(exact, edges) / len(exact)).tolist()}


def binned(values: NDArray[Any], edges: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many values [N] are in each of the bins [B] between ascending edges [B - 1]."""
    places = np.searchsorted(edges, values.astype(np.float32, copy=False), side="right")
    return np.bincount(places, minlength=len(edges) + 1)


def feature_baseline(features: NDArray[Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The distribution of each column of [N, F]."""
    return {name: distribution(column) for name, column in zip(names, features.T, strict=True)}


def places_of(length: int, most: int) -> NDArray[np.int64]:
    """`most` places in a sequence of any length, evenly spaced; some twice where it is shorter."""
    return np.linspace(0, length - 1, most).astype(np.int64)
