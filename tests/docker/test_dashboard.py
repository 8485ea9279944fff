"""What dashboard, autoscaler and README ask of Prometheus is what the service measures."""

import json
import re
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from docker_files import DOCKER, ROOT
from prometheus_client.parser import text_string_to_metric_families
from server import Server

pytestmark = pytest.mark.slow

DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "zoo.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
OF_THE_TARGET = {"job", "instance", "namespace", "pod"}  # labels that Prometheus adds
Metrics = dict[str, set[str]]


@pytest.fixture(scope="module")
def metrics(measured: Server) -> Metrics:
    """Labels of each sample name that the service has."""
    found: Metrics = {}
    for family in text_string_to_metric_families(httpx.get(f"{measured.url}/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def asked(expression: str) -> Metrics:
    """Metrics of a PromQL expression, with the labels that it selects by; ValueError where it is none."""
    found: Metrics = {}

    def note(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            labels = {matcher.name for matcher in node.matchers.matchers}
            found.setdefault(node.name, set()).update(labels)

    promql_parser.walk(promql_parser.parse(expression), note)
    return found


def of_dashboard() -> list[str]:
    return [t["expr"].replace("$__rate_interval", "1m") for panel in PANELS for t in panel["targets"]]


def of_autoscaler() -> list[str]:
    path = DOCKER / "kubernetes" / "prometheus-adapter.yaml"
    rules = yaml.safe_load(path.read_text(encoding="utf-8"))["rules"]["custom"]
    queries = [text for rule in rules for text in (rule["seriesQuery"], rule["metricsQuery"])]
    return [q.replace("<<.LabelMatchers>>", 'pod="a"').replace("<<.GroupBy>>", "pod") for q in queries]


@pytest.mark.parametrize("expression", [*of_dashboard(), *of_autoscaler()])
def test_metrics_are_the_services(expression: str, metrics: Metrics) -> None:
    names = asked(expression)
    assert names
    for name, labels in names.items():
        assert name in metrics
        assert labels <= metrics[name] | OF_THE_TARGET


def test_readme_names_the_services_metrics(metrics: Metrics) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first_cells = re.findall(r"^\| (`zoo_[^|]*)", readme, re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"`(zoo_\w+)`", cell)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in metrics}
    assert named
    assert named <= families


def test_the_dashboard_shows_every_metric_of_the_service(metrics: Metrics) -> None:
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for text in of_dashboard() for name in asked(text)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in metrics if name.startswith("zoo_")}
    assert shown >= families


def test_panels_have_their_own_place_and_the_provisioned_source() -> None:
    path = DOCKER / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
    (source,) = yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in PANELS]
    assert len(set(places)) == len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert {panel["datasource"]["uid"] for panel in PANELS} == {source["uid"]}


def test_dashboards_are_where_grafana_looks() -> None:
    path = DOCKER / "grafana" / "provisioning" / "dashboards" / "zoo.yaml"
    (provider,) = yaml.safe_load(path.read_text(encoding="utf-8"))["providers"]
    volumes = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]["grafana"][
        "volumes"
    ]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in volumes
