"""Schemathesis over the OpenAPI document: whatever may be sent has an answer that the document describes."""

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks
from server import Server

pytestmark = pytest.mark.slow

CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
OVERLOADED = (503, 504)  # errors of the server that are documented, and no faults
TEXTS = {"max_tokens": 16, "beam_size": 2}  # of a text: a larger answer is no other


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    """The service's own document, with names that answer wherever a name may stand."""
    listed = httpx.get(f"{server.url}/models").json()["models"]
    names = {"enum": [*(entry["name"] for entry in listed), "nothing"]}
    document: dict[str, Any] = httpx.get(f"{server.url}/docs.json").json()
    for schema in document["components"]["schemas"].values():
        if "model" in schema.get("properties", {}) and "lineage" not in schema["properties"]:
            schema["properties"]["model"] = names
        for field, most in TEXTS.items():
            if field in schema.get("properties", {}):
                schema["properties"][field] = {"type": "integer", "minimum": 1, "maximum": most}
    for item in document["paths"].values():
        for described in (item, *item.values()):
            for parameter in described.get("parameters", ()) if isinstance(described, dict) else ():
                if parameter["name"] in ("name", "model"):
                    parameter["schema"] = names
                elif parameter["name"] == "version":
                    parameter["schema"] = {"enum": ["1", "champion", "0", "nothing"]}
    return document


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def check(server: Server, session: requests.Session, document: dict[str, Any], examples: int) -> int:
    """Sends so many requests of each operation, both as its schema says and not; how many were sent."""
    sent = 0

    def ask(case: schemathesis.Case) -> None:
        nonlocal sent
        sent += 1
        response = case.call(base_url=server.url, session=session, timeout=30)
        assert response.status_code < 500 or response.status_code in OVERLOADED
        case.validate_response(response, checks=CHECKS)

    quiet = settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = result.ok()
        for mode in GenerationMode:
            cases: st.SearchStrategy[schemathesis.Case] = operation.as_strategy(generation_mode=mode)
            with contextlib.suppress(Unsatisfiable):  # where there is nothing that could be wrong
                quiet(given(cases)(ask))()
    return sent


def test_every_operation(server: Server, session: requests.Session, document: dict[str, Any]) -> None:
    assert check(server, session, document, 3) > 150


@pytest.mark.soak
def test_every_operation_at_length(
    server: Server, session: requests.Session, document: dict[str, Any]
) -> None:
    assert check(server, session, document, 200) > 5000
