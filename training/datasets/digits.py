"""Digits: 1,797 handwritten digits of 8x8 pixels.

Source: Alpaydin & Kaynak (1998), "Optical Recognition of Handwritten Digits", UCI, doi:10.24432/C50P49,
in scikit-learn's copy. Its 17 grey levels are scaled to 0..255, so that image files work too.
"""

import numpy as np

from training.datasets.base import Data, DataSet, split_examples
from zoo.tasks import Schema

NAME = "digits"
KIND = "image_classification"
SOURCE = "Alpaydin & Kaynak 1998, in scikit-learn"


def load() -> Data:
    """Loads 1,437 training and 360 test images uint8 [8, 8, 1]."""
    from sklearn.datasets import load_digits

    table = load_digits()
    image = np.round(table.images * (255 / 16)).astype(np.uint8)[..., None]  # [N, 8, 8, 1]
    schema = Schema(labels=tuple("0123456789"), target="digit")
    return split_examples(NAME, KIND, schema, SOURCE, {"image": image}, table.target.astype(np.int64))


DATASET = DataSet(NAME, KIND, "1,797 images 8x8", "CC BY 4.0", SOURCE, load)
