"""docker/README.md agrees with the files that it is about."""

import re
import shutil
import subprocess

import pytest
import yaml
from docker_files import DOCKER, ROOT
from requirement import require

from zoo.cli import COMMANDS

TEXT = (DOCKER / "README.md").read_text(encoding="utf-8")
SHELL = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_every_file_has_its_row() -> None:
    rows = re.findall(r"^\| (`.*?) \|", TEXT.partition("## Images")[0], re.MULTILINE)
    patterns = [name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row)]
    for pattern in patterns:
        assert list(DOCKER.glob(pattern)), pattern
    listed = {path for pattern in patterns for path in DOCKER.glob(pattern)}
    assert {path for path in DOCKER.iterdir() if path.name not in ("README.md", ".env")} == listed


def test_every_folder_of_kubernetes_has_its_row() -> None:
    rows = re.findall(r"^\| (`.*?) \|", TEXT.partition("## Kubernetes")[2], re.MULTILINE)
    listed = {name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row) if name[-1] == "/"}
    assert listed == {path.name for path in (DOCKER / "kubernetes").iterdir() if path.is_dir()}


@pytest.mark.parametrize("block", SHELL)
def test_commands_are_commands(block: str) -> None:
    """As far as that can be told without running them: the shell, the paths, the words of `zoo`."""
    require(shutil.which("bash"), "bash")
    checked = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    for path in re.findall(r"(?<![\w/.])(?:docker|tests)/[\w./-]+", block):
        assert path == "docker/.env" or (ROOT / path).exists(), path
    words = re.findall(r"(?:^zoo|zoo-training:0.1.0|run --rm train) ([\w-]+)", block, re.MULTILINE)
    assert set(words) <= COMMANDS.keys()


def test_services_that_commands_name() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    named = re.findall(r"zoo-compose (?:stop|exec -T) (\w+)", TEXT)
    assert named
    assert set(named) <= services.keys()


def test_prometheus_operator_gets_the_same_alerts() -> None:
    require(shutil.which("bash"), "bash")
    (block,) = (block for block in SHELL if "PrometheusRule" in block)
    command = block.replace("kubectl apply --filename -", "cat")
    made = subprocess.run(["bash", "-c", command], cwd=ROOT, check=True, capture_output=True).stdout
    rule = yaml.safe_load(made)
    assert rule["kind"] == "PrometheusRule"
    assert rule["spec"] == yaml.safe_load((DOCKER / "prometheus" / "alerts.yaml").read_text(encoding="utf-8"))


def test_links_within_the_page() -> None:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
