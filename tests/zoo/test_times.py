"""Times of series with offsets to UTC, over both changes of the clocks, in requests and in training data."""

import itertools
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from training.datasets.time_series import load_series
from zoo.errors import InvalidInput
from zoo.tasks.forecasting import Forecasting, ForecastRequest
from zoo.tasks.times import read_times

EUROPE, AMERICA = (date(2024, 3, 31), date(2024, 10, 27)), (date(2024, 3, 10), date(2024, 11, 3))
SOUTH = date(2024, 4, 7), date(2024, 9, 29)
ZONES = {  # hours to UTC before the first change of 2024, between both, and after them
    "London, Dublin, Lisbon": (EUROPE, (0, 1, 0)),
    "Berlin": (EUROPE, (1, 2, 1)),
    "Azores": (EUROPE, (-1, 0, -1)),
    "New York": (AMERICA, (-5, -4, -5)),
    "Auckland": (SOUTH, (13, 12, 13)),
    "Kolkata": (EUROPE, (5.5, 5.5, 5.5)),
}
MONTHS = [date(2024 + i // 12, i % 12 + 1, 1) for i in range(24)]
CALENDARS = {
    "days": ("D", 1, [date(2024, 1, 1) + timedelta(days=i) for i in range(366)]),
    "every second day": ("D", 2, [date(2024, 1, 1) + timedelta(days=2 * i) for i in range(180)]),
    "Mondays": ("W", 1, [date(2024, 1, 1) + timedelta(weeks=i) for i in range(52)]),
    "Thursdays": ("W", 1, [date(2024, 1, 4) + timedelta(weeks=i) for i in range(52)]),
    "months": ("M", 1, MONTHS),
    "quarters": ("M", 3, MONTHS[::3]),
    "years": ("Y", 1, [date(2020 + i, 1, 1) for i in range(8)]),
    "business years": ("Y", 1, [date(2020 + i, 4, 1) for i in range(8)]),
}


def offset(day: date, zone: str) -> timezone:
    (first, second), hours = ZONES[zone]
    return timezone(timedelta(hours=hours[(day > first) + (day > second)]))  # clocks change after midnight


def midnights(days: list[date], zone: str) -> list[str]:
    return [datetime(day.year, day.month, day.day, tzinfo=offset(day, zone)).isoformat() for day in days]


def ask(period: str, every: int, times: list[str]) -> None:
    """Asks a model whose data have such steps."""
    task = Forecasting(
        variables=("v",),
        unit="",
        every=every,
        period=period,  # type: ignore[arg-type]
        season=1,
        window=1,
        horizon=1,
        mean=(0.0,),
        std=(1.0,),
        naive_error=(1.0,),
    )
    values = [1.0] * len(times)
    task.encode(ForecastRequest.model_validate({"model": "m", "timestamps": times, "values": values}))


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("calendar", CALENDARS)
def test_dates_are_those_of_the_clock_on_the_wall(calendar: str, zone: str) -> None:
    period, every, days = CALENDARS[calendar]
    times = midnights(days, zone)
    assert len({time[-6:] for time in times}) > 1 or zone == "Kolkata" or period == "Y"
    ask(period, every, times)
    ask(period, every, [time.replace("T00:00:00", "T23:59:59") for time in times])


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("calendar", CALENDARS)
def test_what_is_no_step_is_still_refused(calendar: str, zone: str) -> None:
    period, every, days = CALENDARS[calendar]
    times = midnights(days, zone)
    for place in range(2, len(times) - 1, 37):
        gap = times[:place] + times[place + 1 :]
        twice = [*times[:place], times[place - 1], *times[place:]]
        swapped = [*times[: place - 1], times[place], times[place - 1], *times[place + 1 :]]
        for wrong, at in ((gap, place), (twice, place), (swapped, place - 1)):
            with pytest.raises(InvalidInput, match=rf"^timestamps\[{at}\] does not follow"):
                ask(period, every, wrong)


def test_dates_that_jitter_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"timestamps\[1\] does not follow"):
        ask("W", 1, ["2024-01-03T00:00+00:00", "2024-01-11T00:00+00:00", "2024-01-17T00:00+00:00"])
    with pytest.raises(InvalidInput, match=r"timestamps\[3\] does not follow"):
        ask("D", 1, [*midnights(CALENDARS["days"][2][88:91], "Berlin"), "2024-04-02T01:00+02:00"])


SPRING = ["2024-03-31T00:00+01:00", "2024-03-31T01:00+01:00", "2024-03-31T03:00+02:00"]
AUTUMN = ["2024-10-27T02:00+02:00", "2024-10-27T02:00+01:00", "2024-10-27T03:00+01:00"]


@pytest.mark.parametrize("times", [SPRING, AUTUMN])
def test_hours_are_those_of_utc(times: list[str]) -> None:
    ask("h", 1, times)
    ask("m", 60, times)
    ask("s", 3600, times)
    with pytest.raises(InvalidInput, match="does not follow"):
        ask("h", 1, [time[:16] for time in times])  # without their offsets


def test_a_time_may_lack_an_offset() -> None:
    ask("D", 1, ["2024-01-01T00:00:00Z", "2024-01-02", "2024-01-03T00:00:00+09:00"])
    ask("h", 1, ["2024-01-01T00:00:00Z", "2024-01-01T01:00", "2024-01-01T11:00:00+09:00"])


def test_the_ends_of_the_calendar() -> None:
    ask("h", 1, ["0001-01-01T00:00+14:00", "0001-01-01T00:00+13:00"])
    ask("D", 1, ["9999-12-30T23:00-12:00", "9999-12-31T23:00-12:00"])


@pytest.mark.parametrize(
    "text", ["24:00", "2024-1-1", "2024-13", "20240", "now", "NaT", "", "2024-01-01T00:00+25:00"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^times\[1\] is no ISO 8601 time"):
        read_times(["2024-01-01", text], "times")


# Training data


def written(path: Path, times: list[str]) -> str:
    rows = [f"{time},{float(i)}" for i, time in enumerate(times)]
    path.write_text("\n".join(["t,v", *rows]), encoding="utf-8")
    return f"csv:{path}"


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("calendar", [name for name, (_, _, days) in CALENDARS.items() if len(days) >= 30])
@pytest.mark.parametrize("form", ["{}T00:00:00{}", "{} 00:00:00 {}", "{} 00:00{}"])
def test_training_counts_as_requests_do(tmp_path: Path, calendar: str, zone: str, form: str) -> None:
    """In ISO 8601, which requests must have, and in a format that only pandas reads."""
    period, every, days = CALENDARS[calendar]
    iso = midnights(days, zone)
    times = [form.format(time[:10], time[-6:]) for time in iso]
    np.random.default_rng(0).shuffle(times)
    data = load_series(written(tmp_path / "series.csv", times), "t", "v")
    series = np.concatenate([data.train["target"], data.test["target"]])
    order = sorted(range(len(times)), key=lambda i: times[i])
    assert series[:, 0].tolist() == [float(i) for i in order], "none is missing"
    assert (data.schema.period, data.schema.every) == (period, every)
    ask(data.schema.period, data.schema.every, iso)


def test_training_counts_hours_in_utc(tmp_path: Path) -> None:
    berlin = [timezone(timedelta(hours=hours)) for hours in (1, 2)]
    begin = datetime(2024, 3, 30, 12, tzinfo=berlin[0])
    change = datetime(2024, 3, 31, 2, tzinfo=berlin[0])
    hours = [begin + timedelta(hours=i) for i in range(48)]
    times = [hour.astimezone(berlin[hour >= change]).isoformat() for hour in hours]
    assert any(later[11:13] == "03" and now[11:13] == "01" for now, later in itertools.pairwise(times))
    data = load_series(written(tmp_path / "series.csv", times), "t", "v")
    assert (data.schema.period, data.schema.every) == ("h", 1)
    assert len(data.train["target"]) + len(data.test["target"]) == 48
    ask("h", 1, times)
