"""The OpenAPI document: names of operations, forms with files, and what needs a key."""

import re
from base64 import b64decode
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx
import orjson
import pytest

from serving import openapi


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of each."""
    for path, item in document["paths"].items():
        for method in ("get", "post"):
            if method in item:
                yield path, method, item[method]


@pytest.fixture
def document(client: httpx.Client) -> dict[str, Any]:
    served: dict[str, Any] = client.get("/docs.json").json()
    return served


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names)) > 40
    assert all(re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", name) for name in names)
    assert {"classify_image", "list_models", "v2_infer", "create_chat_completion"} <= set(names)


def test_what_the_document_says_of_itself(document: dict[str, Any]) -> None:
    information = document["info"]
    assert (information["title"], information["version"]) == ("Model zoo", version("model-zoo-service"))
    assert information["description"]
    described = {tag["name"] for tag in document["tags"]}
    assert {tag for _, _, operation in operations(document) for tag in operation["tags"]} == described


def test_pages_are_not_in_it(document: dict[str, Any]) -> None:
    assert not {"/", "/docs"} & document["paths"].keys()
    assert not [path for path in document["paths"] if path.startswith("/static")]


def form_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    name = content["multipart/form-data"]["schema"]["$ref"].removeprefix("#/components/schemas/")
    form: dict[str, Any] = document["components"]["schemas"][name]
    return form


@pytest.mark.parametrize("path", ["/classify_image", "/explain_image"])
def test_forms_have_files(document: dict[str, Any], path: str) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]
    form = form_of(document, path)
    assert form["required"] == ["model", "image"]
    assert form["properties"]["image"]["type"] == "array"
    assert form["properties"]["image"]["items"]["format"] == "binary"
    assert "pixels" not in form["properties"]
    assert form["properties"]["model"]["examples"] == list(content["application/json"]["examples"])


def test_an_example_of_a_form_succeeds(document: dict[str, Any], client: httpx.Client) -> None:
    content = document["paths"]["/classify_image"]["post"]["requestBody"]["content"]
    for name in form_of(document, "/classify_image")["properties"]["model"]["examples"]:
        example = content["application/json"]["examples"][name]["value"]
        answer = client.post("/classify_image", data={"model": name}, files={"image": picture(example)})
        assert answer.status_code == 200


def picture(example: dict[str, Any]) -> bytes:
    image = example["image"]
    return b64decode(image[0] if isinstance(image, list) else image)


def test_what_needs_a_key_is_locked() -> None:
    for open_metrics in (False, True):
        document = orjson.loads(openapi.document(None, locked=True, open_metrics=open_metrics))
        assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
        unlocked = {path for path, _, operation in operations(document) if "security" not in operation}
        open_paths = {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"}
        assert unlocked == open_paths | ({"/metrics"} if open_metrics else set())


def test_without_keys_nothing_is_locked(document: dict[str, Any]) -> None:
    assert "securitySchemes" not in document["components"]
    assert not any("security" in operation for _, _, operation in operations(document))


def test_the_version_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(openapi, "version", missing)
    assert openapi.project_version() == "0.0.0"
