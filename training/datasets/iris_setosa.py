"""Iris setosa against the rest: a real data set whose two classes are linearly separable.

Source: Fisher (1936), "The use of multiple measurements in taxonomic problems",
doi:10.1111/j.1469-1809.1936.tb02137.x, in scikit-learn's copy.
"""

from training.datasets.base import Data, DataSet, split_examples
from zoo.tasks import Schema

NAME = "iris-setosa"
KIND = "tabular_classification"
SOURCE = "Fisher 1936, in scikit-learn"


def load() -> Data:
    """Loads 120 training and 30 test rows of 4 features; class 0 is setosa, 1 versicolor or virginica."""
    from sklearn.datasets import load_iris

    table = load_iris()
    schema = Schema(
        feature_names=tuple(table.feature_names), labels=("setosa", "not setosa"), target="species"
    )
    target = (table.target != 0).astype("int64")
    return split_examples(NAME, KIND, schema, SOURCE, {"features": table.data}, target)


DATASET = DataSet(NAME, KIND, "150 flowers", "CC BY 4.0", SOURCE, load)
