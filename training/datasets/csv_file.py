"""Any CSV file with a header as a data set: `--dataset csv:PATH --target COLUMN`.

The other columns are the features and must be numeric. A numeric target makes the task regression, any other
target classification. Rows with missing values are left out, and their number is logged.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training import datasets
from training.datasets.base import Data, slug, split_examples
from zoo.errors import InvalidInput, NotFound
from zoo.tasks import Schema

if TYPE_CHECKING:
    from pandas import DataFrame

log = logging.getLogger(__name__)
PREFIX = "csv:"
MOST_LABELS = 0.2  # classes per row: a fifth of the rows is for testing, and must contain each class
MIN_ROWS = 10  # an 80/20 split of fewer is too small to measure anything


def dataset_name(reference: str) -> str:
    """Returns the data set's name; for a file, its stem in lower case with words joined by hyphens."""
    if not reference.startswith(PREFIX):
        return reference
    return slug(Path(reference.removeprefix(PREFIX)).stem, "csv")


def read_table(reference: str) -> "tuple[Path, DataFrame]":
    """Returns the path in csv:PATH and its table; `NotFound` without the file, `InvalidInput` if not CSV."""
    import pandas as pd

    path = Path(reference.removeprefix(PREFIX)).expanduser()
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    try:
        return path, pd.read_csv(path)
    except ValueError as error:  # pandas' parser errors, and bytes that are no text
        raise InvalidInput(f"{path.name} is not a CSV file with a header: {error}") from error


def load_table(reference: str, target: str | None) -> Data:
    """Loads the data set with this name, or the file; `InvalidInput` names the column that does not fit."""
    if not reference.startswith(PREFIX):
        return datasets.find(reference).load()
    path, table = read_table(reference)
    if target is None or target not in table.columns:
        raise InvalidInput(f"name the column to predict with --target; {path.name} has {list(table.columns)}")
    rows = len(table)
    table = table.dropna()
    if len(table) < rows:
        log.warning("%s: left out %d of %d rows, which lack values", path.name, rows - len(table), rows)
    if len(table) < MIN_ROWS:
        raise InvalidInput(f"{path.name} has {len(table)} complete rows; at least {MIN_ROWS} are needed")
    features = table.drop(columns=target)
    words = [name for name in features.columns if features[name].dtype.kind not in "iufb"]
    if words or features.shape[1] == 0:
        raise InvalidInput(f"features must be numeric columns; these are not: {words or 'there are none'}")
    numbers = table.select_dtypes("number")
    if infinite := [name for name in numbers.columns if np.isinf(numbers[name]).any()]:
        raise InvalidInput(f"these columns of {path.name} hold infinite values: {infinite}")
    names = tuple(str(name) for name in features.columns)
    inputs = {"features": features.to_numpy(dtype=np.float64)}
    name, source = dataset_name(reference), path.name
    if table[target].dtype.kind in "iuf":
        values = table[target].to_numpy(dtype=np.float64)
        schema = Schema(feature_names=names, target=target)
        return split_examples(name, "tabular_regression", schema, source, inputs, values)
    labels, classes, counts = np.unique(table[target].astype(str), return_inverse=True, return_counts=True)
    if len(labels) < 2 or len(labels) > MOST_LABELS * len(table):
        raise InvalidInput(
            f"{target!r} has {len(labels)} classes in {len(table)} rows; at least 2 are needed, and at most "
            f"one in {1 / MOST_LABELS:.0f} rows"
        )
    if counts.min() < 2:
        rare = labels[counts.argmin()]
        raise InvalidInput(
            f"class {rare!r} of {target!r} has 1 row; one is needed for training, one for testing"
        )
    schema = Schema(feature_names=names, labels=tuple(map(str, labels)), target=target)
    return split_examples(name, "tabular_classification", schema, source, inputs, classes.astype(np.int64))
