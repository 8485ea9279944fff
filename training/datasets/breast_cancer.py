"""Breast cancer Wisconsin: 30 measurements of cell nuclei in 569 tumours, malignant or benign.

Source: Street, Wolberg & Mangasarian (1993), "Nuclear feature extraction for breast tumor diagnosis",
doi:10.1117/12.148698, in scikit-learn's copy.
"""

from training.datasets.base import Data, DataSet, split_examples
from zoo.tasks import Schema

NAME = "breast-cancer"
KIND = "tabular_classification"
SOURCE = "Street et al. 1993, in scikit-learn"


def load() -> Data:
    """Loads 455 training and 114 test rows of 30 features."""
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    schema = Schema(
        feature_names=tuple(str(name) for name in table.feature_names),
        labels=tuple(str(name) for name in table.target_names),
        target="tumour",
    )
    return split_examples(NAME, KIND, schema, SOURCE, {"features": table.data}, table.target)


DATASET = DataSet(NAME, KIND, "569 tumours", "CC BY 4.0", SOURCE, load)
