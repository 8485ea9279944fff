"""`/forecast` through the real service."""

import httpx
import pytest

HISTORY = [90.0, 100.0, 110.0, 120.0]
MONTHS = ["2026-01-01", "2026-02-01", "2026-03-01", "2026-04-01"]


def forecast(client: httpx.Client, **fields: object) -> httpx.Response:
    return client.post("/forecast", json={"model": "lstm-sales", **fields})


def test_history_and_timestamped_values_are_answered_alike(client: httpx.Client) -> None:
    body = forecast(client, history=HISTORY).json()
    assert body.keys() == {"forecast", "lower", "upper", "lineage"}
    assert body["forecast"] == [120.0, 110.0]
    assert body["lineage"]["model"] == "lstm-sales"
    assert body == forecast(client, timestamps=MONTHS, values=HISTORY).json()
    assert body["forecast"] == forecast(client, history=[1.0, *HISTORY]).json()["forecast"]


def test_months_in_winter_and_summer_time(client: httpx.Client) -> None:
    """In London: midnight in summer time is 23:00 UTC of the day before."""
    times = [f"2026-{month:02}-01T00:00:00+0{month > 3:d}:00" for month in (2, 3, 4, 5)]
    answer = forecast(client, timestamps=times, values=HISTORY)
    assert answer.status_code == 200, answer.text
    assert answer.json() == forecast(client, history=HISTORY).json()
    times[3] = times[3].replace("-05-01T00", "-04-30T23")
    assert "timestamps[3] does not follow" in forecast(client, timestamps=times, values=HISTORY).text


def test_horizon_and_interval(client: httpx.Client) -> None:
    narrow, wide = (forecast(client, history=HISTORY, horizon=1, interval=p).json() for p in (0.5, 0.99))
    assert narrow["forecast"] == wide["forecast"] == [120.0]
    assert wide["lower"][0] < narrow["lower"][0] < 120 < narrow["upper"][0] < wide["upper"][0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"history": HISTORY[:3]}, "needs the last 4"),
        ({"history": HISTORY, "horizon": 3}, "at most 2 steps"),
        ({"history": [1.0] * 65_537}, "65536"),
        ({"history": HISTORY, "interval": 0.2}, "interval"),
        ({"history": HISTORY, "values": HISTORY}, "either history, or timestamps and values"),
        ({"timestamps": MONTHS[::-1], "values": HISTORY}, "oldest first"),
        ({"timestamps": MONTHS, "values": HISTORY[:3]}, "4 timestamps for 3 values"),
        ({"history": ["a"]}, "history"),
        ({"history": [90.0, 100.0, [110.0], 120.0]}, "history[2]: expected a number, as history[0] is"),
        ({"history": [[90.0], 100.0, 110.0, 120.0]}, "history[1]: expected a row of numbers, as history[0]"),
        (
            {"timestamps": MONTHS, "values": [*HISTORY[:3], [1.0]]},
            "values[3]: expected a number, as values[0]",
        ),
        ({}, "either history"),
    ],
)
def test_what_does_not_fit(client: httpx.Client, fields: dict, words: str) -> None:
    response = forecast(client, **fields)
    assert response.status_code == 422
    assert words in response.json()["error"]
    assert len(response.json()["error"]) < 500
