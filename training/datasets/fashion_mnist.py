"""Fashion-MNIST: 70,000 articles of clothing, 28x28 pixels, in MNIST's format.

Source: Xiao, Rasul & Vollgraf (2017), arXiv:1708.07747.
"""

from training.datasets.base import Data, DataSet
from training.datasets.idx import is_present, load_idx

NAME = "fashion-mnist"
SOURCE = "Zalando 2017, fetched by torchvision"
LABELS = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def load() -> Data:
    """Loads the data set, as described in `load_idx`."""
    return load_idx(NAME, "FashionMNIST", LABELS, SOURCE)


DATASET = DataSet(
    NAME,
    "image_classification",
    "70,000 images 28x28",
    "MIT",
    SOURCE,
    load,
    lambda: is_present("FashionMNIST"),
)
