"""Diabetes: ten measurements of 442 patients, and the disease's progression one year later.

Source: Efron, Hastie, Johnstone & Tibshirani (2004), "Least Angle Regression",
doi:10.1214/009053604000000067, in scikit-learn's copy: each feature is centred and scaled to a sum of squares
of 1.
"""

from training.datasets.base import Data, DataSet, split_examples
from zoo.tasks import Schema

NAME = "diabetes"
KIND = "tabular_regression"
SOURCE = "Efron et al. 2004, in scikit-learn"


def load() -> Data:
    """Loads 353 training and 89 test rows of 10 features."""
    from sklearn.datasets import load_diabetes

    table = load_diabetes()
    schema = Schema(
        feature_names=tuple(table.feature_names), target="disease progression after a year", unit="points"
    )
    return split_examples(NAME, KIND, schema, SOURCE, {"features": table.data}, table.target)


DATASET = DataSet(NAME, KIND, "442 patients", "BSD", SOURCE, load)
