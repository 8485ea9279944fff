"""A log gets so many lines of a kind each minute, and is told how many more there were."""

import logging
import time

import pytest

from serving.log_sampling import LogSampling


@pytest.fixture
def log() -> logging.Logger:
    log = logging.getLogger("tests.sampling")
    sampling = LogSampling(2)
    log.addFilter(sampling)
    yield log
    log.removeFilter(sampling)


def test_lines_of_each_kind(
    log: logging.Logger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        log.warning("refused %d", number)
    log.warning("something else")
    log.error("refused %d", 7)
    assert caplog.messages == ["refused 0", "refused 1", "something else", "refused 7"]
    caplog.clear()
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    for number in range(3):
        log.warning("refused %d", number)
    assert caplog.messages == ["refused 0 … and 298 more like the last of these", "refused 1"]


def test_how_many_were_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = LogSampling(2)
    assert [sampling.left_out(504) for _ in range(5)] == [0, 0, None, None, None]
    assert sampling.left_out(500) == 0
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert [sampling.left_out(504) for _ in range(3)] == [3, 0, None]


def test_kinds_without_number(log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5000):
        log.warning(f"refused {number}")
    (sampling,) = log.filters
    assert isinstance(sampling, LogSampling)
    assert len(sampling._windows) <= 1000
    assert len(caplog.messages) == 5000
