"""The compose file agrees with its schema, with the files around it and with the images' promises."""

import re
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from docker_files import DOCKER, PROJECT
from mlflow.cli import cli
from mlflow.environment_variables import MLFLOW_SERVER_ENABLE_JOB_EXECUTION

COMPOSE = DOCKER / "compose.yaml"
GPU = DOCKER / "compose.gpu.yaml"
STACK: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = STACK["services"]
GPU_SERVICES: dict[str, Any] = yaml.safe_load(GPU.read_text(encoding="utf-8"))["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)


@pytest.mark.parametrize("path", [COMPOSE, GPU], ids=lambda path: path.stem)
def test_schema(path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_images_have_versions() -> None:
    tags = {name: service["image"].rpartition(":")[2] for name, service in SERVICES.items()}
    assert all(re.fullmatch(r"v?\d+\.\d+(\.\d+)?", tag) for tag in tags.values())
    assert {tags[name] for name in OURS} == {PROJECT["version"]}


def test_the_date_when_versions_were_looked_at_is_given() -> None:
    assert re.search(
        r"^# .* versions of .* 20\d\d-\d\d-\d\d\.$", COMPOSE.read_text(encoding="utf-8"), re.MULTILINE
    )


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


@pytest.mark.parametrize("name", SERVICES)
def test_logs_do_not_fill_the_disk(name: str) -> None:
    logging = SERVICES[name]["logging"]
    assert logging["driver"] == "json-file"
    assert re.fullmatch(r"\d+m", logging["options"]["max-size"])
    assert int(logging["options"]["max-file"]) > 0


def test_making_the_bucket_is_tried_again() -> None:
    """`docker compose restart` starts it before the object storage is ready."""
    assert SERVICES["bucket"]["restart"].startswith("on-failure:")


def test_training_leaves_the_cores_to_the_service() -> None:
    assert SERVICES["train"]["cpu_shares"] < SERVICES["service"].get("cpu_shares", 1024)


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
    assert reached == {"postgres", "objects", "bucket", "migrate", "mlflow"}


def test_postgresql_is_ready_when_it_answers_over_tcp() -> None:
    """On its socket it also answers while its image makes a new database."""
    check = SERVICES["postgres"]["healthcheck"]["test"]
    assert check[check.index("--host") + 1] == "127.0.0.1"


def test_the_object_storage_takes_the_space_that_it_needs() -> None:
    """Its image preallocates volumes of 1 GB; the last one of several options counts."""
    (command,) = SERVICES["objects"]["command"]
    assert command.rindex("-master.volumePreallocate=false") > command.index("/entrypoint.sh server")


def test_servers_have_the_time_that_they_need_to_stop() -> None:
    """Seconds: Compose kills after 10. SeaweedFS takes 25, and the service drains."""
    graces = {
        name: service["stop_grace_period"]
        for name, service in SERVICES.items()
        if "stop_grace_period" in service
    }
    assert graces == {"objects": "60s", "service": "45s"}


def test_nothing_starts_before_what_it_needs_is_ready() -> None:
    def waits(name: str) -> dict[str, str]:
        return {needed: how["condition"] for needed, how in SERVICES[name]["depends_on"].items()}

    assert waits("bucket") == {"objects": "service_healthy"}
    assert "healthcheck" in SERVICES["objects"]
    assert waits("migrate") == {"postgres": "service_healthy"}
    done = "service_completed_successfully"
    assert waits("mlflow") == {"bucket": done, "migrate": done}
    assert waits("service") == waits("train") == {"mlflow": "service_healthy"}


def test_mlflows_tables_are_brought_up_to_date() -> None:
    uri = SERVICES["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    assert SERVICES["migrate"]["command"] == ["mlflow", "db", "upgrade", uri]
    assert SERVICES["migrate"]["image"] == SERVICES["mlflow"]["image"]


def test_the_databases_password_is_in_no_command() -> None:
    """Every user of the machine can read the command line of a process."""
    uri = SERVICES["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    assert urlsplit(uri).username == SERVICES["postgres"]["environment"]["POSTGRES_USER"]
    assert urlsplit(uri).password is None
    password = SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert {SERVICES[name]["environment"]["PGPASSWORD"] for name in ("migrate", "mlflow")} == {password}


def test_mlflow_runs_no_jobs_and_logs_no_health_checks() -> None:
    variables = SERVICES["mlflow"]["environment"]
    assert variables["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert variables["MLFLOW_UVICORN_OPTS"] == "--no-access-log"


def test_mlflow_knows_the_variables() -> None:
    """Its command line reads the options of the server from them."""
    server = cli.commands["server"]
    known = {option.envvar for option in server.params} | {MLFLOW_SERVER_ENABLE_JOB_EXECUTION.name}
    assert {name for name in SERVICES["mlflow"]["environment"] if name.startswith("MLFLOW_")} <= known


def test_the_service_keeps_its_bundles() -> None:
    """In a volume that the image's user may write to, because everybody may write to /var/tmp."""
    service = SERVICES["service"]
    assert service["volumes"] == ["cache:/var/tmp"]
    assert "cache" in STACK["volumes"]
    home = PurePosixPath(service["environment"]["ZOO_HOME"])
    assert home.is_relative_to("/var/tmp")
    assert not any(home.is_relative_to(path) for path in service["tmpfs"])


def test_grafana_does_not_call_its_makers() -> None:
    switches = {
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_FEEDBACK_LINKS_ENABLED": "false",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_NEWS_NEWS_FEED_ENABLED": "false",
        "GF_PLUGINS_PLUGIN_ADMIN_ENABLED": "false",
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
        "GF_PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED": "true",
        "GF_SECURITY_DISABLE_GRAVATAR": "true",
        "GF_SNAPSHOTS_EXTERNAL_ENABLED": "false",
        "GF_SUPPORT_BUNDLES_ENABLED": "false",
    }
    assert switches.items() <= SERVICES["grafana"]["environment"].items()


def test_prometheus_reads_its_folder_and_keeps_a_limited_history() -> None:
    prometheus = SERVICES["prometheus"]
    options = dict(option.removeprefix("--").split("=") for option in prometheus["command"])
    assert "./prometheus:/etc/prometheus:ro" in prometheus["volumes"]
    config = PurePosixPath(options["config.file"])
    assert config.parent == PurePosixPath("/etc/prometheus")
    assert (DOCKER / "prometheus" / config.name).is_file()
    assert f"prometheus:{options['storage.tsdb.path']}" in prometheus["volumes"]
    assert re.fullmatch(r"\d+d", options["storage.tsdb.retention.time"])
    assert re.fullmatch(r"\d+GB", options["storage.tsdb.retention.size"])


def test_prometheus_scrapes_the_service() -> None:
    settings = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8"))
    (job,) = settings["scrape_configs"]
    (targets,) = job["static_configs"]
    assert targets == {"targets": ["service:3000"]}  # and /metrics, Prometheus' default
    assert "service" in SERVICES


def test_training_and_serving_can_have_a_gpu() -> None:
    assert GPU_SERVICES.keys() == {"train", "service"}
    for name, service in GPU_SERVICES.items():
        assert service["image"] == f"{SERVICES[name]['image']}-cuda", "another image, under another name"
        assert service["build"] == {"args": {"DEVICE": "cuda"}}
        assert SERVICES[name]["build"].get("args", {}).get("DEVICE", "cpu") == "cpu"
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert GPU_SERVICES["service"]["environment"] == {"ZOO_DEVICE": "cuda"}
