"""A running service whose /metrics has a sample of everything."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from server import Server, running
from tiny_zoo import TinyRegistry, write_regression, write_writer

from serving.drift import LEAST_ROWS
from zoo.version import CHALLENGER, CHALLENGER_MODE, ChallengerMode

MODEL = "linear_regression-diabetes"


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves two models and a challenger, refuses a third, and was asked often enough to see drift."""
    scratch: Path = tmp_path_factory.mktemp("measured")
    registry = TinyRegistry(tmp_path_factory.mktemp("home"))
    for made in (write_regression(scratch / "regression"), write_writer(scratch / "writer")):
        registry.promote(made.manifest.model, registry.register(made))
    challenger = registry.register(write_regression(scratch / "challenger", bias=1.0))
    registry.client.set_model_version_tag(MODEL, challenger, CHALLENGER_MODE, str(ChallengerMode()))
    registry.client.set_registered_model_alias(MODEL, CHALLENGER, challenger)
    registry.register(write_regression(scratch / "worse", bias=9.0), gate="failed", reason="worse")
    with running(scratch / "log", ZOO_HOME=str(registry.home)) as server:
        body = {"model": MODEL, "rows": [[1, 2]] * LEAST_ROWS}
        httpx.post(f"{server.url}/regress", json=body).raise_for_status()
        assert httpx.get(f"{server.url}/livez", headers={"Host": "elsewhere"}).status_code == 421
        yield server
