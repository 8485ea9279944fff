"""What dashboard, alerts, autoscaler and README ask of Prometheus is what the service measures."""

import json
import re
from collections import Counter
from itertools import product
from pathlib import Path
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
OF_PROMETHEUS = {"up": set[str](), "ALERTS": {"alertname", "alertstate", "severity", "model"}}
"""Series that Prometheus writes itself, with their labels."""
Metrics = dict[str, set[str]]


def read(path: Path) -> Any:
    """The content of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def metrics(measured: Server) -> Metrics:
    """Labels of each sample name that the service has, and of those of Prometheus."""
    found: Metrics = {name: set(labels) for name, labels in OF_PROMETHEUS.items()}
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


def grouping(expression: str) -> set[str]:
    """Labels that a PromQL expression aggregates or matches by."""
    found: set[str] = set()

    def note(node: promql_parser.Expr) -> None:
        modifier = getattr(node, "modifier", None)
        if isinstance(node, promql_parser.BinaryExpr) and modifier is not None:
            modifier = modifier.matching
        if modifier is not None:
            found.update(modifier.labels)

    promql_parser.walk(promql_parser.parse(expression), note)
    return found


def of_dashboard() -> list[str]:
    return [t["expr"].replace("$__rate_interval", "1m") for panel in PANELS for t in panel["targets"]]


def of_autoscaler() -> list[str]:
    rules = read(DOCKER / "kubernetes" / "prometheus-adapter.yaml")["rules"]["custom"]
    queries = [text for rule in rules for text in (rule["seriesQuery"], rule["metricsQuery"])]
    return [q.replace("<<.LabelMatchers>>", 'pod="a"').replace("<<.GroupBy>>", "pod") for q in queries]


def of_alerts() -> list[str]:
    groups = read(DOCKER / "prometheus" / "alerts.yaml")["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("expression", [*of_dashboard(), *of_autoscaler(), *of_alerts()])
def test_metrics_are_the_services(expression: str, metrics: Metrics) -> None:
    names = asked(expression)
    assert names
    for name, labels in names.items():
        assert name in metrics
        assert labels <= metrics[name] | OF_THE_TARGET
    assert grouping(expression) <= set.union(OF_THE_TARGET, *(metrics[name] for name in names))


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


def test_panels_have_their_own_place() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    cells: Counter[tuple[int, int]] = Counter()
    for place in (panel["gridPos"] for panel in PANELS):
        assert place["x"] + place["w"] <= 24
        cells.update(
            product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
    assert set(cells.values()) == {1}


def test_the_dashboard_asks_the_provisioned_source_alone() -> None:
    (source,) = read(DOCKER / "grafana" / "provisioning" / "datasources" / "prometheus.yaml")["datasources"]
    asking = [*DASHBOARD["templating"]["list"], *PANELS, *(t for panel in PANELS for t in panel["targets"])]
    for place in asking:
        assert place["datasource"] == {"type": source["type"], "uid": source["uid"]}
    interval = read(DOCKER / "prometheus" / "prometheus.yaml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval


def test_grafana_is_told_of_no_address_but_prometheus() -> None:
    files = [path for path in (DOCKER / "grafana").rglob("*") if path.is_file()]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert re.findall(r"\w+://[^\s\"]+", text) == ["http://prometheus:9090"]
    # Others come as plugins, or load what they show from elsewhere, as maps and news do.
    assert {panel["type"] for panel in PANELS} <= {"timeseries", "table"}


def test_dashboards_are_where_grafana_looks() -> None:
    (provider,) = read(DOCKER / "grafana" / "provisioning" / "dashboards" / "zoo.yaml")["providers"]
    volumes = read(DOCKER / "compose.yaml")["services"]["grafana"]["volumes"]
    assert "./grafana/provisioning:/etc/grafana/provisioning:ro" in volumes
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in volumes
