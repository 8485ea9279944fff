"""Versions that cannot be loaded: told in words of ours, tried again with pauses, logged once."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hostile_bundles import unlisted
from tiny_zoo import record_of, write_regression

from serving.bundles_folder import BundlesFolder
from serving.engine import Engine
from serving.follower import LAST_RETRY_SECONDS, Follower
from serving.registry import RegistryUnavailable
from serving.source import Listing, Version
from zoo.credentials import hide_credentials
from zoo.errors import NotFound

NAME = "linear_regression-diabetes"
VERSION = Version(NAME, "1", ("champion",), True, "", {}, None)
ADDRESS = "https://user:pass@store/secret/place"


class Failing:
    """A source that lists a version and fails to hand out its bundle."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error
        self.asked = 0
        self.directory = Path()

    def read(self) -> Listing:
        return Listing({NAME: (VERSION,)})

    @contextmanager
    def bundle(self, version: Version) -> Iterator[Path]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        yield self.directory


def unavailable() -> RegistryUnavailable:
    error = RegistryUnavailable("its files cannot be fetched")
    error.__cause__ = OSError(f"no answer from {ADDRESS}")
    return error


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine("cpu", 1, 1, 1)
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("error", "reason", "traced"),
    [
        (unavailable(), "its files cannot be fetched", False),
        (RuntimeError(ADDRESS), "it could not be loaded (RuntimeError)", True),
    ],
)
def test_pauses_grow_and_one_line_is_logged(
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    reason: str,
    traced: bool,
) -> None:
    source = Failing(error)
    follower = Follower(source, engine, 1.0, None)
    now, begun = [time.monotonic()], time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    tried: list[float] = []
    for _ in range(300):
        asked = source.asked
        with pytest.raises(NotFound) as refused:
            follower.load(VERSION)
        if source.asked > asked:
            tried.append(now[0] - begun)
        now[0] += 1.01
    assert str(refused.value) == f"version 1 of '{NAME}' is refused: {reason}"
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses[:4] == pytest.approx([1, 2, 4, 8], abs=1.1)
    assert max(pauses) == pytest.approx(LAST_RETRY_SECONDS, abs=1.1)
    assert len(caplog.records) == 1
    assert ("Traceback" in caplog.text) is traced
    assert "https://***@store/secret/place" in caplog.text
    assert "pass" not in caplog.text.replace(f"{__file__}", "")


def test_what_can_be_had_again_is_loaded(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Failing(unavailable())
    follower = Follower(source, engine, 1.0, None)
    with pytest.raises(NotFound):
        follower.load(VERSION)
    source.error, source.directory = None, write_regression(tmp_path / "made").directory
    later = time.monotonic() + 2
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert follower.load(VERSION).version == "1"
    assert not follower._refusals


def test_an_output_that_cannot_be_listed(engine: Engine, tmp_path: Path) -> None:
    """It would keep the whole listing from being made."""
    source = Failing(unavailable())
    source.error, source.directory = None, unlisted(tmp_path / "unlisted")
    follower = Follower(source, engine, 1.0, None)
    follower._step()
    assert follower.catalogue is not None
    with pytest.raises(NotFound, match=r"input or output of the type seq\(tensor\(float\)\)"):
        follower.catalogue.find(NAME)


@pytest.mark.parametrize("version", ["1\r\nSet-Cookie: a=b", "", "0", "one", "-1"])
def test_a_folder_with_a_version_that_is_no_number(tmp_path: Path, version: str) -> None:
    made = write_regression(tmp_path / "made")
    origin = {"version": version, "record": record_of(made).model_dump()}
    (made.directory / "origin.json").write_text(json.dumps(origin))
    write_regression(tmp_path / "other", name="linear_regression-other")
    assert list(BundlesFolder(tmp_path).read().versions) == ["linear_regression-other"]


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://me:p%40ss@host/db failed", "postgresql://***@host/db failed"),
        ("('https://token@host/a', 'https://host/a')", "('https://***@host/a', 'https://host/a')"),
        ("no address, me@host", "no address, me@host"),
    ],
)
def test_passwords_stay_out_of_logs(text: str, hidden: str) -> None:
    assert hide_credentials(text) == hidden
