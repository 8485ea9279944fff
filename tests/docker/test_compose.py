"""The compose file agrees with its schema, with the files around it and with the images' promises."""

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from docker_files import DOCKER, PROJECT

COMPOSE = DOCKER / "compose.yaml"
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)


def test_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_images_have_versions() -> None:
    tags = {name: service["image"].rpartition(":")[2] for name, service in SERVICES.items()}
    assert all(re.fullmatch(r"v?\d+\.\d+(\.\d+)?", tag) for tag in tags.values())
    assert {tags[name] for name in OURS} == {PROJECT["version"]}


def test_variables_are_in_the_example() -> None:
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text(encoding="utf-8")))
    example = (DOCKER / "example.env").read_text(encoding="utf-8")
    assert used == set(re.findall(r"^(\w+)=$", example, re.MULTILINE)), "and without values"


def test_every_file_that_is_used_is_there() -> None:
    for name in OURS:
        build = SERVICES[name]["build"]
        assert (DOCKER / build["context"] / build["dockerfile"]).is_file()
    volumes = [volume for service in SERVICES.values() for volume in service.get("volumes", ())]
    mounted = [DOCKER / volume.partition(":")[0] for volume in volumes if volume.startswith(".")]
    assert mounted
    assert [path for path in mounted if not path.exists()] == []


@pytest.mark.parametrize("name", SERVICES)
def test_containers_may_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["tmpfs"] == ["/tmp"] if name in OURS else "/tmp" in service["tmpfs"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*g", service["mem_limit"])
    assert service["pids_limit"] > 0


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - set(OURS)))
def test_the_images_of_others_run_as_no_root(name: str) -> None:
    """Ours say so in their Dockerfiles."""
    assert SERVICES[name]["user"].partition(":")[0] not in ("", "0", "root")


def test_secrets_are_required() -> None:
    settings = COMPOSE.read_text(encoding="utf-8")
    for name in re.findall(r"\$\{(\w+)", settings):
        assert f"${{{name}:?" in settings
    assert ":-" not in settings, "a default would leave something open"


def test_ports_are_on_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_nobody_but_mlflow_reaches_the_stores() -> None:
    reached = {name for name, service in SERVICES.items() if "storage" in service["networks"]}
    assert reached == {"postgres", "objects", "bucket", "mlflow"}


def test_prometheus_scrapes_the_service() -> None:
    settings = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8"))
    (job,) = settings["scrape_configs"]
    (targets,) = job["static_configs"]
    assert targets == {"targets": ["service:3000"]}  # and /metrics, Prometheus' default
    assert "service" in SERVICES
