"""The service's manifests agree with each other and with what the service does."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from docker_files import DOCKER
from manifests import KUBERNETES, Manifest, container, kustomized, manifest, pod_templates, variables
from server import Server, running
from tiny_zoo import write_regression

from serving.application import SENDING_SECONDS
from serving.settings import KEYS_FILE, Settings
from zoo.servers import LAST_SECONDS

KEYS = ("a-key-of-the-manifests", "another-of-the-manifests")
ROLES = ("service", "service-gpu")

each_role = pytest.mark.parametrize("role", ROLES)


def settings_of(role: str, keys: Path) -> dict[str, str]:
    """Variables of the service's container, with a file of keys that is here."""
    keys.write_text("\n".join(KEYS) + "\n")
    return {**variables(container(role, "Deployment")), KEYS_FILE: str(keys)}


def uncommented(folder: Path) -> tuple[Manifest, ...]:
    """What kustomize makes of the service with its options switched on."""
    shutil.copytree(KUBERNETES / "service", folder)
    path = folder / "kustomization.yaml"
    always, _, options = path.read_text(encoding="utf-8").partition("# Options: ")
    lines = [line.removeprefix("# ") for line in options.splitlines() if re.match(r"# (patches:|  )", line)]
    path.write_text("\n".join([always, *lines]), encoding="utf-8")
    return kustomized(folder)


@pytest.fixture(scope="module")
def with_options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Specifications with all options, by kind."""
    made = uncommented(tmp_path_factory.mktemp("options") / "service")
    for each in made:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
    return {each["kind"]: each["spec"] for each in made}


@each_role
def test_the_settings_can_be(role: str, tmp_path: Path) -> None:
    given = settings_of(role, tmp_path / "keys")
    fields = {f"ZOO_{name.upper()}" for name in Settings.model_fields} | {KEYS_FILE}
    assert {name for name in given if name.startswith("ZOO_")} <= fields
    settings = Settings.from_environment(given)
    assert settings.api_keys is not None
    assert settings.device == ("cuda" if role.endswith("-gpu") else "cpu")


@each_role
def test_the_drain_fits_into_the_grace_period(role: str, tmp_path: Path) -> None:
    settings = Settings.from_environment(settings_of(role, tmp_path / "keys"))
    drain = max(settings.drain, settings.deadline + SENDING_SECONDS) + LAST_SECONDS
    before = container(role, "Deployment")["lifecycle"]["preStop"]["sleep"]["seconds"]
    (template,) = pod_templates(role)
    assert before + drain < template["spec"]["terminationGracePeriodSeconds"]


@each_role
def test_memory_fits(role: str, tmp_path: Path) -> None:
    """Requests in flight take at most half; models and Python have the rest."""
    settings = Settings.from_environment(settings_of(role, tmp_path / "keys"))
    limit = container(role, "Deployment")["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Gi")) << 30 >= 2 * settings.memory


@each_role
def test_names_agree(role: str) -> None:
    deployment, autoscaler = manifest(role, "Deployment"), manifest(role, "HorizontalPodAutoscaler")
    (port,) = container(role, "Deployment")["ports"]
    assert [each["targetPort"] for each in manifest(role, "Service")["spec"]["ports"]] == [port["name"]]
    assert autoscaler["spec"]["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"], "the autoscaler's to say"
    (metric,) = autoscaler["spec"]["metrics"]
    adapter = (KUBERNETES / "prometheus-adapter.yaml").read_text(encoding="utf-8")
    (rule,) = yaml.safe_load(adapter)["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]


def test_the_pod_reaches_mlflow() -> None:
    rules = manifest("service", "NetworkPolicy")["spec"]["egress"]
    address = httpx.URL(variables(container("service", "Deployment"))["MLFLOW_TRACKING_URI"])
    assert {port["port"] for rule in rules for port in rule["ports"]} == {53, address.port}
    mlflow = manifest("mlflow", "Service")
    assert address.host == mlflow["metadata"]["name"]
    assert [address.port] == [port["port"] for port in mlflow["spec"]["ports"]]


@each_role
def test_a_drained_node_takes_one_pod_at_most(role: str) -> None:
    budget = manifest(role, "PodDisruptionBudget")["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


def test_pods_are_spread_where_that_is_possible() -> None:
    (template,) = pod_templates("service")
    constraints = template["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in constraints] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    assert {each["whenUnsatisfiable"] for each in constraints} == {"ScheduleAnyway"}


def test_a_new_pod_waits_for_no_gpu_that_an_old_one_has() -> None:
    """And there is one pod, until somebody says how many GPUs there are."""
    rolling = manifest("service-gpu", "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxUnavailable": 1, "maxSurge": 0}
    scaling = manifest("service-gpu", "HorizontalPodAutoscaler")["spec"]
    assert (scaling["minReplicas"], scaling["maxReplicas"]) == (1, 1)
    usual = manifest("service", "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert usual == {"maxUnavailable": 0, "maxSurge": 1}


def test_prometheus_finds_the_pods() -> None:
    """By the monitor, or by annotations."""
    (template,) = pod_templates("service")
    (port,) = container("service", "Deployment")["ports"]
    monitor = manifest("monitoring", "PodMonitor")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert endpoint["port"] == port["name"]
    (job,) = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"]
    assert template["metadata"]["labels"][monitor["jobLabel"]] == job["job_name"], "which alerts select by"
    assert template["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port["containerPort"]),
        "prometheus.io/path": endpoint["path"],
    }


def test_traces_reach_the_collector(with_options: dict[str, Any]) -> None:
    (pod,) = with_options["Deployment"]["template"]["spec"]["containers"]
    collector = httpx.URL(variables(pod)["OTEL_EXPORTER_OTLP_ENDPOINT"])
    allowed = {port["port"] for rule in with_options["NetworkPolicy"]["egress"] for port in rule["ports"]}
    usual = manifest("service", "NetworkPolicy")["spec"]["egress"]
    assert allowed == {collector.port} | {port["port"] for rule in usual for port in rule["ports"]}


def test_scaling_without_the_adapter(with_options: dict[str, Any]) -> None:
    """Utilization is of the cores that the container asks for."""
    (metric,) = with_options["HorizontalPodAutoscaler"]["metrics"]
    assert (metric["type"], metric["resource"]["name"]) == ("Resource", "cpu")
    assert "cpu" in container("service", "Deployment")["resources"]["requests"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service with the variables of the manifest, two workers, and bundles in MLflow's place."""
    folder = tmp_path_factory.mktemp("pod")
    write_regression(folder / "bundles" / "made")
    given = settings_of("service", folder / "keys")
    given |= {"ZOO_BUNDLES": str(folder / "bundles"), "ZOO_WORKERS": "2", "ZOO_HOME": str(folder)}
    with running(folder / "log", "0.0.0.0", **given) as server:
        yield server


@pytest.mark.slow
class TestRunning:
    @pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
    def test_probes_ask_what_the_service_answers(self, probe: str, service: Server) -> None:
        """By the pod's address, without a key."""
        path = container("service", "Deployment")[probe]["httpGet"]["path"]
        answer = httpx.get(f"{service.url}{path}", headers={"Host": "10.1.2.3:3000"})
        assert answer.status_code == 200

    def test_prometheus_needs_no_key(self, service: Server) -> None:
        (endpoint,) = manifest("monitoring", "PodMonitor")["spec"]["podMetricsEndpoints"]
        assert httpx.get(f"{service.url}{endpoint['path']}").status_code == 200

    def test_others_need_one_of_the_secret(self, service: Server) -> None:
        for _ in range(8):  # connections, which both workers take
            headers = [{}, *({"Authorization": f"Bearer {key}"} for key in (*KEYS, "no-key-of-the-secret"))]
            answers = [httpx.get(f"{service.url}/models", headers=each) for each in headers]
            assert [answer.status_code for answer in answers] == [401, 200, 200, 403]

    def test_no_key_is_in_a_variable_or_in_the_log(self, service: Server) -> None:
        shown = service.log.read_bytes() + Path(f"/proc/{service.pid}/environ").read_bytes()
        assert KEYS_FILE.encode() in shown
        assert not any(key.encode() in shown for key in KEYS)
