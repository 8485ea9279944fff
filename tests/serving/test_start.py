"""How the service starts, and when it refuses to."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from server import command, environment, free_port, running
from tiny_zoo import TinyRegistry, record_of, write_images, write_regression

pytestmark = pytest.mark.slow


def start(**variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(free_port()),
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ZOO_DEVICE": "tpu"}, "ZOO_DEVICE=tpu"),
        ({"ZOO_THREADS": "0"}, "ZOO_THREADS=0"),
        ({"ZOO_CORES": "0.5"}, "ZOO_CORES=0.5: expected a whole number of CPU cores"),
        ({"ZOO_WORKERS": "0"}, "ZOO_WORKERS=0"),
        ({"ZOO_DEADLINE": "soon"}, "ZOO_DEADLINE=soon"),
        ({"ZOO_KEEP_ALIVE": "0"}, "ZOO_KEEP_ALIVE=0"),
        ({"ZOO_API_KEYS": "a-key-too-short"}, "ZOO_API_KEYS: Value error, expected keys of 16 or more"),
        (
            {"ZOO_API_KEYS_FILE": "/nowhere/keys"},
            "ZOO_API_KEYS_FILE: the file cannot be read: No such file or directory",
        ),
        ({"ZOO_HOSTS": "*"}, "ZOO_HOSTS=*"),
        ({"ZOO_BUNDLES": "/nowhere/at/all"}, "ZOO_BUNDLES=/nowhere/at/all"),
    ],
)
def test_settings_that_cannot_be(variables: dict[str, str], message: str) -> None:
    ended = start(**variables)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")
    ended = start(ZOO_DEVICE="cuda", ZOO_HOME=str(tmp_path))
    assert ended.returncode != 0
    assert "CUDAExecutionProvider" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_imports() -> None:
    """Neither torch nor the training side; and the process that only supervises imports no ONNX Runtime."""
    code = """
import sys, serving.service
assert not {"torch", "training", "mlflow", "onnxruntime"} & sys.modules.keys()
serving.service.ZooService.to_asgi()
assert not {"torch", "training", "mlflow"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def test_bundles_without_a_registry(tmp_path: Path) -> None:
    folder = tmp_path / "bundles"
    write_regression(folder / "alone")  # no origin: version 1
    write_images(folder / "deep" / "lenet", accuracy=0.7)
    for version, accuracy in (("3", 0.8), ("12", 0.9)):
        made = write_images(folder / f"mlp-{version}", name="mlp-mnist", accuracy=accuracy)
        origin = {"model": "mlp-mnist", "version": version, "run_id": "0" * 32}
        record = record_of(made).model_dump()
        (made.directory / "origin.json").write_text(json.dumps({**origin, "record": record}))
    broken = write_regression(folder / "broken", name="linear_regression-broken")
    broken.graph_path.write_bytes(b"\0")
    (folder / "rubbish").mkdir()
    (folder / "rubbish" / "manifest.json").write_text("{}")
    with (
        running(tmp_path / "log", ZOO_BUNDLES=str(folder), ZOO_HOME=str(tmp_path / "home")) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        entries = {entry["name"]: entry for entry in client.get("/models").json()["models"]}
        assert entries.keys() == {
            "linear_regression-diabetes",
            "diabetes",
            "lenet5-mnist",
            "mlp-mnist",
            "mnist",
        }
        assert entries["diabetes"]["lineage"]["version"] == "1"
        assert entries["mlp-mnist"]["lineage"]["version"] == "12"
        assert entries["mnist"]["alias_of"] == "mlp-mnist"
        for entry in entries.values():
            assert client.post(entry["endpoint"], json=entry["example_request"]).status_code == 200
        states = [v["state"] for v in client.get("/models/mlp-mnist").json()["versions"]]
        assert states == ["serving", "available"]
        assert "model.onnx" in client.get("/models/linear_regression-broken").json()["error"]
        assert not (tmp_path / "home").exists()


def test_ten_models_are_ready_within_seconds(registry: TinyRegistry, tmp_path: Path) -> None:
    for i in range(10):
        name = f"linear_regression-many{i}"
        registry.promote(name, registry.register(write_regression(tmp_path / name, name=name)))
    with running(tmp_path / "log", ZOO_HOME=str(registry.home)) as server:
        supervisor = psutil.Process(server.pid)
        spent = [process.cpu_times() for process in (supervisor, *supervisor.children(recursive=True))]
        seconds = sum(times.user + times.system for times in spent)  # whatever else wants the cores
        listed = httpx.get(f"{server.url}/models").json()["models"]
    assert sum(entry["dataset"].startswith("many") for entry in listed) == 20
    assert seconds < 10


@pytest.mark.parametrize("keys", [{}, {"ZOO_API_KEYS": "a-key-of-the-tests"}])
def test_a_service_beyond_loopback_has_any_name(tmp_path: Path, keys: dict[str, str]) -> None:
    write_regression(tmp_path / "bundles" / "made")
    variables = {"ZOO_BUNDLES": str(tmp_path / "bundles"), **keys}
    with running(tmp_path / "log", "0.0.0.0", **variables) as server:
        assert httpx.get(f"{server.url}/livez", headers={"Host": "10.1.2.3:3000"}).status_code == 200
        warnings = server.log.read_text().count("ZOO_API_KEYS is not set")
    assert warnings == (0 if keys else 1)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        zoo = [sys.executable, "-c", "from zoo.cli import main; main()", "serve", "--port", port]
        variables = environment(ZOO_HOME=str(tmp_path))
        done = subprocess.run(zoo, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"zoo: port {port} is taken; choose another: zoo serve --port ")
    assert "Traceback" not in done.stderr
