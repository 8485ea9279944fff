"""What the log says of a registry that cannot be read."""

import pytest
from server import wait_for

from serving.engine import Engine
from serving.follower import Follower
from serving.registry import Registry


def test_the_log_shows_no_password(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine("cpu", 1, 1, 1)
    # MLflow repeats in its error the whole URI, whose scheme ought to be postgresql.
    follower = Follower(Registry("postgres://anna:secret@db/zoo", False), engine, 1.0, None)
    follower.start()
    try:
        wait_for(lambda: "cannot be read" in caplog.text, within=30)
    finally:
        follower.stop()
        engine.close()
    assert "postgres://***@db/zoo" in caplog.text
    assert "secret" not in caplog.text
