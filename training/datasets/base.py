"""Base classes of data sets: a description that is free to read, and raw arrays in splits when loaded."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InvalidInput
from zoo.tasks import Arrays, Schema


@dataclass(frozen=True)
class Data:
    """Raw arrays in splits: the graph's inputs by name, and `target`."""

    name: str
    kind: str
    """Kind of task that the data set is for."""
    schema: Schema
    source: str
    train: Arrays
    test: Arrays
    validation: Arrays | None = None
    held_out_of: str | None = None
    """Digest of the data before `hold_out` or `few_per_class` took examples out of the training split."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all raw arrays, their names and types, before `few_per_class` and `hold_out`."""
        if self.held_out_of is not None:
            return self.held_out_of
        digest = hashlib.sha256()
        for split in (self.train, self.validation or {}, self.test):
            for name, array in sorted(split.items()):
                digest.update(f"{name} {array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class DataSet:
    """Description of a data set, and how to load it."""

    name: str
    kind: str
    size: str
    """Number of examples, in words."""
    licence: str
    source: str
    load: Callable[[], Data]
    present: Callable[[], bool] = lambda: True
    """Returns True if `load` needs no network; always True for data that packages contain."""


def slug(text: str, otherwise: str) -> str:
    """Returns a text in lower case with its words joined by hyphens; `otherwise` if it has no words."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or otherwise


def split_examples(
    name: str,
    kind: str,
    schema: Schema,
    source: str,
    inputs: Arrays,
    target: NDArray[Any],
    test_share: float = 0.2,
) -> Data:
    """Splits into training and test as scikit-learn does with `random_state=42`; stratified by class."""
    from sklearn.model_selection import train_test_split

    classes = target if target.dtype.kind == "i" else None
    train, test = train_test_split(
        np.arange(len(target)), test_size=test_share, random_state=42, stratify=classes
    )
    arrays = {**inputs, "target": target}
    return Data(
        name=name,
        kind=kind,
        schema=schema,
        source=source,
        train={key: array[train] for key, array in arrays.items()},
        test={key: array[test] for key, array in arrays.items()},
    )


def few_per_class(data: Data, count: int | None, seed: int) -> Data:
    """Keeps `count` random training examples per class, or all if it is None; other splits are unchanged.

    Call it before `hold_out`. `InvalidInput` if a class has fewer examples.
    """
    if count is None:
        return data
    if count < 1:
        raise InvalidInput(f"at least 1 training example a class is needed, not {count}")
    target = data.train["target"]
    order = np.random.default_rng(seed).permutation(len(target))
    rows_by_class = [order[target[order] == k] for k in range(len(data.schema.labels))]
    for label, rows in zip(data.schema.labels, rows_by_class, strict=True):
        if len(rows) < count:
            raise InvalidInput(f"class {label!r} has {len(rows)} training examples, fewer than {count}")
    kept = np.sort(np.concatenate([rows[:count] for rows in rows_by_class]))
    train = {name: array[kept] for name, array in data.train.items()}
    return replace(data, train=train, held_out_of=data.digest)


def hold_out(data: Data, share: float, seed: int) -> Data:
    """Moves a random `share` of the training split to a validation split.

    A data set with a validation split of its own keeps it; with a share of 0, there is none.
    """
    if data.validation is not None or share == 0:
        return data
    rows = len(data.train["target"])
    order = np.random.default_rng(seed).permutation(rows)
    count = max(1, round(rows * share))
    # Sorted, so that neighbours in memory stay neighbours, and the split does not shuffle the examples.
    held, kept = np.sort(order[:count]), np.sort(order[count:])
    return replace(
        data,
        train={name: array[kept] for name, array in data.train.items()},
        validation={name: array[held] for name, array in data.train.items()},
        held_out_of=data.digest,
    )
