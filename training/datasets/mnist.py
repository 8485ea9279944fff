"""MNIST: 70,000 handwritten digits of 28x28 pixels.

Source: LeCun, Bottou, Bengio & Haffner (1998), doi:10.1109/5.726791.
"""

from training.datasets.base import Data, DataSet
from training.datasets.idx import is_present, load_idx

NAME = "mnist"
SOURCE = "LeCun et al. 1998, fetched by torchvision"


def load() -> Data:
    """Loads the data set, as described in `load_idx`."""
    return load_idx(NAME, "MNIST", tuple("0123456789"), SOURCE)


DATASET = DataSet(
    NAME,
    "image_classification",
    "70,000 images 28x28",
    "CC BY-SA 3.0",
    SOURCE,
    load,
    lambda: is_present("MNIST"),
)
