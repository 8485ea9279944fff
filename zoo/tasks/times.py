"""Times of a series, and how they are counted: the same for a request's timestamps and for training data.

Days, weeks, months and years count the date that the clock on the wall showed, as it is written: a midnight
is one whatever the offset to UTC is that day. Hours and shorter steps count UTC, where no hour is missing or
comes twice. A time without an offset is taken as it is.

Shape legend: T times.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InvalidInput

DATES = ("Y", "M", "W", "D")  # numpy's codes of the units that count dates; the others are h, m and s
YEAR_OR_MONTH = re.compile(r"\d{4}(-\d{2})?")


@dataclass(frozen=True)
class Times:
    """Times [T] as the clock showed them and in UTC, both datetime64[s]."""

    clock: NDArray[np.datetime64]
    utc: NDArray[np.datetime64]

    def counted(self, period: str) -> NDArray[np.int64]:
        """Number [T] of the year, month, ... or second that each time lies in; `period` is numpy's code."""
        times = self.clock if period in DATES else self.utc
        return times.astype(f"datetime64[{period}]").astype(np.int64)


def read_times(texts: Sequence[str], name: str) -> Times:
    """Times in ISO 8601; a year or a month is its beginning. `InvalidInput` says which of `name` is none."""
    clock, offsets = [], np.zeros(len(texts), "timedelta64[s]")
    for index, text in enumerate(texts):
        try:
            # Python takes neither 2026 nor 2026-01.
            time = datetime.fromisoformat(f"{text}-01-01"[:10] if YEAR_OR_MONTH.fullmatch(text) else text)
        except ValueError:
            raise InvalidInput(f"{name}[{index}] is no ISO 8601 time, such as 2026-01-31T12:00") from None
        if (offset := time.utcoffset()) is not None:
            offsets[index] = offset
            time = time.replace(tzinfo=None)
        clock.append(time)
    times = np.array(clock, "datetime64[s]")
    return Times(times, times - offsets)
