"""CO2: weekly means in the air at Mauna Loa, 1958 to 2001, a trend with a season. 59 weeks are missing.

Source: Keeling & Whorf (2004), in statsmodels' copy. The last four years are the test split.
"""

from training.datasets.base import Data, DataSet
from training.datasets.time_series import KIND, split_series
from zoo.tasks import Schema

NAME = "co2"
SOURCE = "Keeling & Whorf 2004, with statsmodels"
TEST = 4 * 52
SCHEMA = Schema(feature_names=("co2",), unit="ppm", period="W", season=52)


def load() -> Data:
    """Loads 2,284 weeks, the last 208 for testing."""
    from statsmodels.datasets import co2

    values = co2.load_pandas().data[["co2"]].to_numpy()
    return split_series(NAME, SCHEMA, SOURCE, values, (len(values) - TEST, TEST))


DATASET = DataSet(NAME, KIND, "2,284 weeks", "public domain", SOURCE, load)
