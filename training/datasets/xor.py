"""Exclusive or: the smallest problem that no single threshold unit can learn.

Source: Minsky & Papert (1969), "Perceptrons". Points scattered around the four corners of the unit square, so
that a model can generalise to unseen points.
"""

import numpy as np

from training.datasets.base import Data, DataSet, split_examples
from zoo.tasks import Schema

NAME = "xor"
KIND = "tabular_classification"
SOURCE = "made here, seed 0"
SPREAD = 0.1  # standard deviation around a corner: the border between the classes is five of them away


def load() -> Data:
    """Draws 320 training and 80 test points in the plane, 100 per corner."""
    corners = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], 100, axis=0)
    points = corners + np.random.default_rng(0).normal(0, SPREAD, corners.shape)
    target = (corners[:, 0] ^ corners[:, 1]).astype(np.int64)
    schema = Schema(feature_names=("a", "b"), labels=("0", "1"), target="a xor b")
    return split_examples(NAME, KIND, schema, SOURCE, {"features": points}, target)


DATASET = DataSet(NAME, KIND, "400 points", "none needed", SOURCE, load)
