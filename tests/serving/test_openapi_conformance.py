"""Tools that read the OpenAPI document: Schemathesis checks every answer, a generator makes a client."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
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


CALLS = """
import io, sys
from PIL import Image
from made import Client
from made.api.models import list_models
from made.api.predictions import classify_image, regress
from made.models import ClassifyImageForm, RowsRequest
from made.types import File

with Client(base_url=sys.argv[1]) as client:
    names = [entry.name for entry in list_models.sync(client=client).models]
    assert {"diabetes", "mnist"} <= set(names), names
    asked = RowsRequest(model="diabetes", rows=[[1, 2]])
    print(regress.sync(client=client, body=asked).predictions[0].value)
    picture = io.BytesIO()
    Image.new("L", (28, 28)).save(picture, "PNG")
    picture.seek(0)
    form = ClassifyImageForm(model="mnist", image=[File(picture, "digit.png", "image/png")])
    print(classify_image.sync(client=client, body=form).predictions[0].label)
"""


def test_a_generated_client(server: Server, tmp_path: Path) -> None:
    """Every operation can be generated, named by its id, and those that are called answer."""
    document = httpx.get(f"{server.url}/docs.json").json()
    (tmp_path / "docs.json").write_text(json.dumps(document))
    (tmp_path / "settings.yaml").write_text("post_hooks: []")  # which format the code
    generate = ["generate", "--path", "docs.json", "--output-path", "made", "--meta", "none"]
    command = [sys.executable, "-m", "openapi_python_client", *generate, "--config", "settings.yaml"]
    subprocess.run([*command, "--fail-on-warning"], cwd=tmp_path, check=True)
    modules = [path for path in (tmp_path / "made" / "api").rglob("*.py") if path.stem != "__init__"]
    for (
        module
    ) in modules:  # the generator's issue 1451: where a body has two media types, an import is missing
        imports = "from ...types import "
        module.write_text(module.read_text().replace(imports, f"{imports}Unset, "))
    made = {module.stem for module in modules}
    items = document["paths"].values()
    assert made == {
        item[method]["operationId"] for item in items for method in item if method != "parameters"
    }
    calls = [sys.executable, "-c", CALLS, server.url]
    answers = subprocess.run(calls, cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert answers.split() == ["6.0", "0"]


@pytest.mark.soak
def test_every_operation_at_length(
    server: Server, session: requests.Session, document: dict[str, Any]
) -> None:
    assert check(server, session, document, 200) > 5000
