"""Sunspots: yearly means of Wolf's sunspot number, 1700 to 2008, with a cycle of about eleven years.

Source: SIDC, Royal Observatory of Belgium, in statsmodels' copy. The last 62 years are the test split.
"""

from training.datasets.base import Data, DataSet
from training.datasets.time_series import KIND, split_series
from zoo.tasks import Schema

NAME = "sunspots"
SOURCE = "SIDC, yearly sunspot numbers, with statsmodels"
TEST = 62
SCHEMA = Schema(feature_names=("sunspots",), unit="sunspots", period="Y", season=11)


def load() -> Data:
    """Loads 247 training and 62 test years."""
    from statsmodels.datasets import sunspots

    values = sunspots.load_pandas().data[["SUNACTIVITY"]].to_numpy()
    return split_series(NAME, SCHEMA, SOURCE, values, (len(values) - TEST, TEST))


DATASET = DataSet(NAME, KIND, "309 years", "public domain", SOURCE, load)
