"""A running service whose /metrics has a sample of everything."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from server import Server, running
from tiny_zoo import write_regression, write_writer


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves two bundles, refuses a third, and has been asked."""
    scratch: Path = tmp_path_factory.mktemp("measured")
    write_regression(scratch / "bundles" / "regression")
    write_writer(scratch / "bundles" / "writer")
    broken = write_regression(scratch / "bundles" / "broken", name="linear_regression-broken")
    broken.graph_path.write_bytes(b"\0")
    with running(scratch / "log", ZOO_BUNDLES=str(scratch / "bundles")) as server:
        body = {"model": "diabetes", "rows": [[1, 2]]}
        httpx.post(f"{server.url}/regress", json=body).raise_for_status()
        yield server
