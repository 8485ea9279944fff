"""Prometheus takes its configuration, and each alert fires when it should, and only then."""

import shutil
import subprocess
from typing import Any

import pytest
import yaml
from docker_files import DOCKER
from requirement import require

from serving.drift import LARGE, WINDOW

PROMETHEUS = DOCKER / "prometheus"
UNIT_TESTS = DOCKER.parent / "tests" / "docker" / "alerts_test.yaml"


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", PROMETHEUS / "prometheus.yaml"),
        ("check", "rules", "--lint-fatal", PROMETHEUS / "alerts.yaml"),
        ("test", "rules", UNIT_TESTS),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_succeeds(arguments: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    require(promtool, "promtool")
    done = subprocess.run([str(promtool), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_loads_the_alerts() -> None:
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text(encoding="utf-8"))
    assert configuration["rule_files"] == ["alerts.yaml"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_alert_has_its_unit_tests(rule: dict[str, Any]) -> None:
    tests = yaml.safe_load(UNIT_TESTS.read_text(encoding="utf-8"))["tests"]
    checks = [c for test in tests for c in test["alert_rule_test"] if c["alertname"] == rule["alert"]]
    assert {bool(check.get("exp_alerts")) for check in checks} == {True, False}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description"}


def test_thresholds_are_those_of_service_and_autoscaler() -> None:
    expressions = {rule["alert"]: rule["expr"] for rule in rules()}
    assert f"zoo_drift_psi >= {LARGE}" in expressions["ZooDrift"]
    assert f"zoo_drift_rows >= {WINDOW}" in expressions["ZooDrift"]
    autoscaler = yaml.safe_load(
        (DOCKER / "kubernetes" / "service" / "autoscaler.yaml").read_text(encoding="utf-8")
    )
    (metric,) = autoscaler["spec"]["metrics"]
    milliseconds = int(metric["pods"]["target"]["averageValue"].removesuffix("m"))
    assert f"> {milliseconds / 1000} " in expressions["ZooRequestsWait"]
