"""ETTh1: hourly loads and oil temperature of a transformer station in China, 2016 to 2018, seven variables.

Source: Zhou et al. (2021), "Informer", arXiv:2012.07436. The usual split: 12 months of training, 4 of
validation and 4 of test, of 30 days each; what comes after is left out.
"""

import logging
from pathlib import Path

import numpy as np

from training.datasets.base import Data, DataSet
from training.datasets.time_series import KIND, file_digest, split_series
from zoo.errors import InvalidInput, NotFound
from zoo.home import data_directories
from zoo.tasks import Schema

log = logging.getLogger(__name__)
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
    """8,640, 2,880 and 2,880 hours; fetched where the file is not there."""
    path = _found() or _fetch()
    if file_digest(path) != SHA256:
        raise InvalidInput(f"{path} is not the file that was published: delete it, and it is fetched again")
    values = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=range(1, 1 + len(VARIABLES)))
    return split_series(NAME, SCHEMA, SOURCE, values, SIZES)


def is_present() -> bool:
    """Whether the file lies in a data directory."""
    return _found() is not None


def _found() -> Path | None:
    return next((root / FILE for root in data_directories() if (root / FILE).is_file()), None)


def _fetch() -> Path:
    from torch.hub import download_url_to_file

    path = data_directories()[-1] / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    log.info("fetching %s", URL)
    try:
        download_url_to_file(URL, str(path), hash_prefix=SHA256, progress=False)
    except (OSError, RuntimeError) as error:
        raise NotFound(
            f"{NAME} is not in {' or '.join(map(str, data_directories()))} and could not be fetched "
            f"({error}); put {FILE} there, or point ZOO_DATA to it"
        ) from error
    return path


DATASET = DataSet(NAME, KIND, "14,400 hours, 7 variables", "CC BY-ND 4.0", SOURCE, load, is_present)
