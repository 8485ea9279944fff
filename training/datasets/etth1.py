"""ETTh1: hourly loads and oil temperature of a transformer station in China, 2016 to 2018, seven variables.

Source: Zhou et al. (2021), "Informer", arXiv:2012.07436. The usual split: 12 months for training, 4 for
validation and 4 for testing, of 30 days each; the later hours are left out.
"""

from pathlib import Path

import numpy as np

from training.datasets.base import Data, DataSet
from training.datasets.published_file import checked, fetch, found
from training.datasets.time_series import KIND, split_series
from zoo.tasks import Schema

NAME = "etth1"
FILE = Path("ETT/ETTh1.csv")
URL = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv"
SHA256 = "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"
SOURCE = "Zhou et al. 2021, ETDataset"
MONTH = 30 * 24
SIZES = (12 * MONTH, 4 * MONTH, 4 * MONTH)
VARIABLES = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
SCHEMA = Schema(feature_names=VARIABLES, period="h", season=24)


def load() -> Data:
    """Loads 8,640 training, 2,880 validation and 2,880 test hours; fetches the file if it is missing."""
    path = checked(found(FILE) or fetch(NAME, FILE, URL, SHA256), SHA256)
    values = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=range(1, 1 + len(VARIABLES)))
    return split_series(NAME, SCHEMA, SOURCE, values, SIZES)


def is_present() -> bool:
    """Returns True if the file is in a data directory."""
    return found(FILE) is not None


DATASET = DataSet(NAME, KIND, "14,400 hours, 7 variables", "CC BY-ND 4.0", SOURCE, load, is_present)
