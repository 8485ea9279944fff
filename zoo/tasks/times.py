"""Times of a series and how to count them, for both a request's timestamps and training data.

Days, weeks, months and years are counted by the local date as written, so a midnight is a midnight whatever
the UTC offset is on that day. Hours and shorter units are counted in UTC, where no hour is missing or occurs
twice. A time without an offset is taken as it is.

Shape legend: T times.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InvalidInput

DATES = ("Y", "M", "W", "D")  # numpy's codes of the units counted by date; the others are h, m and s
YEAR_OR_MONTH = re.compile(r"\d{4}(-\d{2})?")


@dataclass(frozen=True)
class Times:
    """Times [T] as the local clock showed them and in UTC, both datetime64[s]."""

    clock: NDArray[np.datetime64]
    utc: NDArray[np.datetime64]

    def counted(self, period: str) -> NDArray[np.int64]:
        """Returns the number [T] of the year, month, ... or second of each time; `period` is numpy's code."""
        times = self.clock if period in DATES else self.utc
        return times.astype(f"datetime64[{period}]").astype(np.int64)


def read_times(texts: Sequence[str], name: str) -> Times:
    """Parses ISO 8601 times; a year or a month stands for its beginning.

    Raises `InvalidInput` with the index, in the field `name`, of the first text that is not a time.
    """
    clock, offsets = [], np.zeros(len(texts), "timedelta64[s]")
    for index, text in enumerate(texts):
        try:
            # datetime.fromisoformat accepts neither 2026 nor 2026-01.
            time = datetime.fromisoformat(f"{text}-01-01"[:10] if YEAR_OR_MONTH.fullmatch(text) else text)
        except ValueError:
            raise InvalidInput(f"{name}[{index}] is no ISO 8601 time, such as 2026-01-31T12:00") from None
        if (offset := time.utcoffset()) is not None:
            offsets[index] = offset
            time = time.replace(tzinfo=None)
        clock.append(time)
    times = np.array(clock, "datetime64[s]")
    return Times(times, times - offsets)
