"""What `kubectl` makes of the folders of docker/kubernetes."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from docker_files import DOCKER
from requirement import require

KUBERNETES = DOCKER / "kubernetes"
FOLDERS = sorted(path.parent.name for path in KUBERNETES.glob("*/kustomization.yaml"))
LOWEST = 30
"""Minor version of the oldest Kubernetes 1 that the manifests are for."""

Manifest = dict[str, Any]


@cache
def kustomized(folder: Path) -> tuple[Manifest, ...]:
    """The manifests that `kubectl apply --kustomize` would send."""
    require(_client_version() >= LOWEST, f"kubectl 1.{LOWEST} or later")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr  # warnings of what is deprecated, too
    return tuple(yaml.safe_load_all(done.stdout))


def manifest(folder: str, kind: str) -> Manifest:
    """The one manifest of a kind in a folder."""
    (found,) = (made for made in kustomized(KUBERNETES / folder) if made["kind"] == kind)
    return found


def pod_templates(folder: str) -> list[Manifest]:
    """Labels, annotations and specification of the pods."""
    made = kustomized(KUBERNETES / folder)
    return [each["spec"]["template"] for each in made if "template" in each.get("spec", {})]


def container(folder: str, kind: str) -> Manifest:
    """The one container, besides those that run before it."""
    (found,) = manifest(folder, kind)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def variables(described: Manifest) -> dict[str, str]:
    """A container's variables that have a value in its manifest."""
    return {each["name"]: each["value"] for each in described["env"] if "value" in each}


@cache
def _client_version() -> int:
    if shutil.which("kubectl") is None:
        return 0
    done = subprocess.run(["kubectl", "version", "--client", "--output", "json"], capture_output=True)
    found = re.match(r"v1\.(\d+)", json.loads(done.stdout)["clientVersion"]["gitVersion"])
    assert found is not None
    return int(found[1])
