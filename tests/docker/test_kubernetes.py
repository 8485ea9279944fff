"""The manifests agree with Kubernetes' schemas and with what the service does."""

from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from docker_files import DOCKER, PROJECT, only, stages
from server import Server

from serving.application import SENDING_SECONDS
from serving.settings import Settings
from zoo.servers import LAST_SECONDS

pytestmark = pytest.mark.slow

FOLDER = DOCKER / "kubernetes"
OTHERS = {"kustomization.yaml", "prometheus-adapter.yaml"}  # read by kustomize and by Helm


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return loaded


RESOURCES: list[str] = load("kustomization.yaml")["resources"]
POD: dict[str, Any] = load("deployment.yaml")["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
VARIABLES = {variable["name"]: variable.get("value") for variable in CONTAINER["env"]}


@pytest.mark.parametrize("name", RESOURCES)
def test_schema(name: str) -> None:
    kubernetes_validate.validate(load(name), kubernetes_validate.latest_version(), strict=True)


def test_kustomize_knows_every_manifest_and_the_image() -> None:
    assert {*RESOURCES, *OTHERS} == {path.name for path in FOLDER.iterdir()}
    (image,) = load("kustomization.yaml")["images"]
    assert image["name"] == CONTAINER["image"]
    assert image["newTag"] == PROJECT["version"]


def test_names_agree() -> None:
    deployment, service, autoscaler, policy = (load(name) for name in RESOURCES)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    assert [port["targetPort"] for port in service["spec"]["ports"]] == [CONTAINER["ports"][0]["name"]]
    (ingress,) = policy["spec"]["ingress"]
    assert [port["port"] for port in ingress["ports"]] == [CONTAINER["ports"][0]["name"]]
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    (metric,) = autoscaler["spec"]["metrics"]
    (rule,) = load("prometheus-adapter.yaml")["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_probes_ask_what_the_service_answers(probe: str, measured: Server) -> None:
    path = CONTAINER[probe]["httpGet"]["path"]
    assert httpx.get(f"{measured.url}{path}").status_code == 200


def test_the_drain_fits_into_the_grace_period() -> None:
    settings = Settings.from_environment({name: value for name, value in VARIABLES.items() if value})
    drain = max(settings.drain, settings.deadline + SENDING_SECONDS) + LAST_SECONDS
    before = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert before + drain < POD["terminationGracePeriodSeconds"]


def test_the_pod_reaches_mlflow() -> None:
    rules = load("network-policy.yaml")["spec"]["egress"]
    allowed = {port["port"] for rule in rules for port in rule["ports"]}
    assert allowed == {53, httpx.URL(VARIABLES["MLFLOW_TRACKING_URI"]).port}


def test_keys_are_required() -> None:
    (keys,) = [variable for variable in CONTAINER["env"] if variable["name"] == "ZOO_API_KEYS"]
    assert not keys["valueFrom"]["secretKeyRef"].get("optional", False)


def test_the_pod_may_do_little() -> None:
    image_user = only(stages(DOCKER / "serving.Dockerfile")[-1], "USER").value[0]
    context, own = POD["securityContext"], CONTAINER["securityContext"]
    assert context["runAsNonRoot"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == image_user
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [mount["mountPath"] for mount in CONTAINER["volumeMounts"]] == ["/tmp"]
