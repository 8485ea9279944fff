"""Every folder of manifests agrees with Kubernetes' schemas, with itself and with the images."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from docker_files import DOCKER, PROJECT, only, stages
from manifests import FOLDERS, KUBERNETES, LOWEST, Manifest, kustomized, pod_templates, variables

NAME = "app.kubernetes.io/name"
LABELS = {f"app.kubernetes.io/{word}" for word in ("name", "instance", "component", "part-of", "version")}
WITHOUT_SCHEMA = {"PodMonitor"}  # Prometheus Operator's own

each_folder = pytest.mark.parametrize("folder", FOLDERS)


def containers(folder: str) -> Iterator[tuple[Manifest, Manifest]]:
    """Each container, and the specification of its pod."""
    for template in pod_templates(folder):
        pod = template["spec"]
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            yield container, pod


def image(container: Manifest) -> tuple[list[Any], str]:
    """The last stage of the Dockerfile that makes a container's image, and the tag."""
    name, _, tag = container["image"].partition(":")
    return stages(DOCKER / f"{name.removeprefix('zoo-')}.Dockerfile")[-1], tag


def values_of(found: object, wanted: str) -> Iterator[Any]:
    """The values of a key at any depth."""
    items = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for key, value in items:
        if key == wanted:
            yield value
        yield from values_of(value, wanted)


def test_the_folders() -> None:
    assert FOLDERS == ["mlflow", "monitoring", "service", "service-gpu", "training", "training-gpu"]
    assert {path.name for path in KUBERNETES.iterdir()} == {*FOLDERS, "prometheus-adapter.yaml"}  # Helm's


@each_folder
@pytest.mark.parametrize("version", [f"1.{LOWEST}.0", kubernetes_validate.latest_version()])
def test_schema(folder: str, version: str) -> None:
    made = kustomized(KUBERNETES / folder)
    assert made
    for manifest in made:
        if manifest["kind"] not in WITHOUT_SCHEMA:
            kubernetes_validate.validate(manifest, version, strict=True)


@each_folder
def test_every_file_is_used(folder: str) -> None:
    """And `kubectl apply` is written above, with this folder."""
    text = (KUBERNETES / folder / "kustomization.yaml").read_text(encoding="utf-8")
    resources = {path for path in yaml.safe_load(text)["resources"] if not path.startswith("../")}
    files = {path.name for path in (KUBERNETES / folder).iterdir()}
    assert files == {*resources, "kustomization.yaml"}
    assert f"#   kubectl apply --kustomize docker/kubernetes/{folder}\n" in text


@each_folder
def test_labels(folder: str) -> None:
    labelled = [*kustomized(KUBERNETES / folder), *pod_templates(folder)]
    for labels in (each["metadata"]["labels"] for each in labelled):
        assert labels.keys() == LABELS
        assert labels["app.kubernetes.io/version"] == PROJECT["version"]
        assert labels["app.kubernetes.io/part-of"] == "model-zoo"
    assert len({json.dumps(each["metadata"]["labels"], sort_keys=True) for each in labelled}) == 1


@each_folder
def test_selectors_hold_one_label_that_never_changes(folder: str) -> None:
    made = kustomized(KUBERNETES / folder)
    wanted = {NAME: made[0]["metadata"]["labels"][NAME]}
    for manifest in made:
        spec = manifest.get("spec", {})
        match manifest["kind"]:
            case "Service":
                assert spec["selector"] == wanted
            case "Deployment" | "PodDisruptionBudget" | "PodMonitor":
                assert spec["selector"] == {"matchLabels": wanted}
            case "NetworkPolicy":
                assert spec["podSelector"] == {"matchLabels": wanted}
        for constraint in values_of(spec, "topologySpreadConstraints"):
            assert [each["labelSelector"] for each in constraint] == [{"matchLabels": wanted}] * 2


@each_folder
def test_pods_may_do_little(folder: str) -> None:
    """The Pod Security Standard "restricted", a root file system that is read-only, and no token."""
    for container, pod in containers(folder):
        (user,) = only(image(container)[0], "USER").value
        context = pod["securityContext"]
        assert context["runAsNonRoot"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False, "services' variables could be taken for settings"


@each_folder
def test_images_are_ours(folder: str) -> None:
    """With the project's version, and CUDA where the container has a GPU."""
    for container, _ in containers(folder):
        stage, tag = image(container)
        gpu = "nvidia.com/gpu" in container["resources"]["limits"]
        assert gpu == folder.endswith("-gpu")
        assert tag == PROJECT["version"] + ("-cuda" if gpu else "")
        exposed = [int(port) for command in stage if command.cmd == "EXPOSE" for port in command.value]
        ports = [port["containerPort"] for port in container.get("ports", ())]
        assert ports == ([] if container["name"] == "migration" else exposed)


def test_the_cpus_image_has_another_registry_and_the_gpus_stays_its_own(tmp_path: Path) -> None:
    copy = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    for role, name in (("service", "zoo-serving"), ("training", "zoo-training")):
        path = copy / role / "kustomization.yaml"
        renamed = path.read_text(encoding="utf-8").replace(
            f"newName: {name}", f"newName: registry.example/{name}"
        )
        path.write_text(renamed, encoding="utf-8")
        images = {
            folder: [container["image"] for container, _ in containers(str(copy / folder))]
            for folder in (role, f"{role}-gpu")
        }
        version = PROJECT["version"]
        assert images[role] == [f"registry.example/{name}:{version}"]
        assert images[f"{role}-gpu"] == [f"{name}:{version}-cuda"]


@each_folder
def test_volumes_are_where_the_images_write(folder: str) -> None:
    for container, pod in containers(folder):
        stage, _ = image(container)
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert mounts.keys() == volumes.keys()
        writable = {mount["mountPath"] for mount in mounts.values() if not mount.get("readOnly")}
        declared = {path for command in stage if command.cmd == "VOLUME" for path in command.value}
        assert writable == {"/tmp", *declared}
        sizes = [volume["emptyDir"]["sizeLimit"] for volume in volumes.values() if "emptyDir" in volume]
        (size,), limits = sizes, container["resources"]["limits"]
        assert int(size.removesuffix("Gi")) < int(limits["ephemeral-storage"].removesuffix("Gi"))


@each_folder
def test_secrets_are_files_that_the_group_may_read(folder: str) -> None:
    """And that somebody has made: the file that tells how names each of them."""
    words = "".join(path.read_text(encoding="utf-8") for path in (KUBERNETES / folder).iterdir())
    made = kustomized(KUBERNETES / folder)
    assert "Secret" not in {manifest["kind"] for manifest in made}
    assert not [*values_of(list(made), "secretKeyRef"), *values_of(list(made), "secretRef")]
    for container, pod in containers(folder):
        for volume in (volume for volume in pod["volumes"] if "secret" in volume):
            assert volume["secret"]["defaultMode"] == 0o440
            assert not volume["secret"].get("optional", False)
            assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
            (mount,) = (m for m in container["volumeMounts"] if m["name"] == volume["name"])
            assert mount["readOnly"]
            paths = [Path(value) for value in variables(container).values()]
            files = [path.name for path in paths if path.parent == Path(mount["mountPath"])]
            assert files
            if not folder.endswith("-gpu"):  # which tells nothing again
                command = re.search(rf"create secret generic {volume['secret']['secretName']} (.*)", words)
                assert command is not None
                assert re.findall(r"--from-file ([\w.-]+)", command[1]) == files


@each_folder
def test_network_policies(folder: str) -> None:
    """What is let in comes to a port of the pod; what variables name can be reached."""
    policies = [made for made in kustomized(KUBERNETES / folder) if made["kind"] == "NetworkPolicy"]
    assert len(policies) == len(pod_templates(folder))
    for policy in (policy["spec"] for policy in policies):
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        let_in = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
        let_out = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
        assert all(rule["ports"] for rule in policy["egress"]), "a rule without ports allows all"
        (main,) = (c for c, _ in containers(folder) if c["name"] != "migration")
        assert let_in == {port["name"] for port in main.get("ports", ())}
        named = {httpx.URL(value).port for value in variables(main).values() if value.startswith("http://")}
        assert let_out >= {53, *named}


@each_folder
def test_cores_are_those_that_were_asked_for(folder: str) -> None:
    for container, _ in containers(folder):
        cores = [variable for variable in container["env"] if variable["name"] == "ZOO_CORES"]
        assert "cpu" not in container["resources"]["limits"]
        if "mlflow" not in container["image"]:
            assert cores == [
                {"name": "ZOO_CORES", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}}
            ]
            assert int(container["resources"]["requests"]["cpu"]) >= 1, "a part of a core would count as one"


@each_folder
def test_gpus(folder: str) -> None:
    for container, pod in containers(folder):
        gpus = container["resources"]["limits"].get("nvidia.com/gpu", 0)
        assert gpus == folder.endswith("-gpu")
        tolerated = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
        assert pod.get("tolerations", []) == [tolerated] * gpus


@each_folder
def test_checks_that_are_left_out_have_a_reason(folder: str) -> None:
    for manifest in kustomized(KUBERNETES / folder):
        for name, value in manifest["metadata"].get("annotations", {}).items():
            assert re.fullmatch(r"checkov\.io/skip[1-9]", name)
            assert re.fullmatch(r"CKV2?_K8S_\d+=\w.{15,}", value)


@pytest.mark.soak
def test_checkov_finds_nothing(tmp_path: Path) -> None:
    """What the manifests explain in annotations left out; needs the package index."""
    for folder in FOLDERS:
        made = yaml.safe_dump_all(kustomized(KUBERNETES / folder))
        (tmp_path / f"{folder}.yaml").write_text(made, encoding="utf-8")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "checkov>=3.3"], check=True, timeout=600)
    command = [python.with_name("checkov"), "--framework", "kubernetes", "--skip-download", "--compact"]
    done = subprocess.run(
        [*command, "--output", "json", "--directory", tmp_path, "--skip-path", "venv"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    report = json.loads(done.stdout)
    failed = [f"{check['check_id']} {check['resource']}" for check in report["results"]["failed_checks"]]
    assert (done.returncode, failed) == (0, [])
    assert report["summary"]["passed"] > 300
    assert {Path(check["file_path"]).stem for check in report["results"]["passed_checks"]} >= {
        folder for folder in FOLDERS if pod_templates(folder)
    }
