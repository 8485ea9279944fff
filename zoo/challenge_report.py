"""Comparison of a champion and its challenger, from the details and metrics of a running service."""

from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from zoo.errors import NotFound
from zoo.version import CHALLENGER

SIDES = ("champion", "challenger")
ERROR = "5xx"


def compare(details: Mapping[str, Any], page: str) -> dict[str, Any]:
    """Returns the report on a model's challenge, from the answers of `/models/NAME` and `/metrics`.

    `details` is the answer of `/models/NAME`, `page` that of `/metrics`. For each side: requests, errors (the
    service's, not its clients'), dropped requests, mean and 99th percentile of the graph's run time in
    milliseconds (the percentile is the upper bound of a bucket), and the test metrics. `NotFound` if no
    challenger competes; if one was refused, the message gives the reason.
    """
    model: str = details["lineage"]["model"]
    families = text_string_to_metric_families(page)
    samples = [s for f in families for s in f.samples if s.labels.get("model") == model]
    present = next((s for s in samples if s.name == "zoo_challenger_share"), None)
    if present is None:
        raise NotFound(_why_none(model, details["versions"]))
    own = [s for s in samples if present.labels.items() <= s.labels.items()]
    agreement = {s.labels["agrees"]: s.value for s in own if s.name == "zoo_challenger_agreement_total"}
    compared = int(sum(agreement.values()))
    return {
        "model": model,
        "share": present.value,
        "agreement": agreement["yes"] / compared if compared else None,
        "compared": compared,
        **{side: _side(side, present.labels[side], own, details["versions"]) for side in SIDES},
    }


def _side(role: str, version: str, samples: list[Sample], versions: list[dict[str, Any]]) -> dict[str, Any]:
    own = [s for s in samples if s.labels.get("role") == role]
    outcomes = {s.labels["outcome"]: int(s.value) for s in own if s.name == "zoo_challenger_requests_total"}
    dropped = outcomes.pop("dropped", 0)
    buckets = [(s.labels["le"], s.value) for s in own if s.name == "zoo_challenger_seconds_bucket"]
    seconds = sum(s.value for s in own if s.name == "zoo_challenger_seconds_sum")
    count = buckets[-1][1] if buckets else 0
    p99 = next((float(bound) for bound, below in buckets if count and below >= 0.99 * count), None)
    return {
        "version": version,
        "requests": sum(outcomes.values()),
        "errors": outcomes.get(ERROR, 0),
        "dropped": dropped,
        "mean_ms": 1000 * seconds / count if count else None,
        "p99_ms_at_most": None if p99 is None or p99 == float("inf") else 1000 * p99,
        "metrics": next((v["metrics"] for v in versions if v["version"] == version), {}),
    }


def _why_none(model: str, versions: list[dict[str, Any]]) -> str:
    for version in versions:
        if CHALLENGER in version["aliases"]:
            why = f"{version['state']}: {version['reason']}"
            return f"version {version['version']} of {model!r} does not compete; it is {why}"
    return f"{model!r} has no challenger; zoo challenger {model} VERSION makes one"
