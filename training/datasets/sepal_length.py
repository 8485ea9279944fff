"""Sepal length of 150 irises from the length and width of their petals: a small regression problem.

Source: Fisher (1936), "The use of multiple measurements in taxonomic problems",
doi:10.1111/j.1469-1809.1936.tb02137.x, in scikit-learn's copy. The two features are correlated (r = 0.96),
so that the loss of linear regression is a long, narrow valley: studies of optimisers use it.
"""

from training.datasets.base import Data, DataSet, split_examples
from zoo.tasks import Schema

NAME = "sepal-length"
KIND = "tabular_regression"
SOURCE = "Fisher 1936, in scikit-learn"


def load() -> Data:
    """Loads 120 training and 30 test rows of 2 features."""
    from sklearn.datasets import load_iris

    sepal_length, _, petal_length, petal_width = range(4)  # columns, in cm
    table = load_iris().data
    schema = Schema(feature_names=("petal length", "petal width"), target="sepal length", unit="cm")
    features = table[:, [petal_length, petal_width]]
    return split_examples(NAME, KIND, schema, SOURCE, {"features": features}, table[:, sepal_length])


DATASET = DataSet(NAME, KIND, "150 flowers", "CC BY 4.0", SOURCE, load)
