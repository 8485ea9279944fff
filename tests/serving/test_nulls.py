"""Null in every field of every request: as if the field were absent, or refused as missing."""

import json
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ValidationError
from test_errors import refused
from test_v2_errors import refused as refused_v2

from serving.protocols.openai.request import (
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    JsonSchema,
    OpenRequest,
    ResponseFormat,
    StreamOptions,
    TextPart,
    WritingRequest,
)
from serving.protocols.v2.text import BEAMS, OF_THE_PROTOCOL, SAMPLING
from zoo.tasks import OPERATIONS, Operation
from zoo.tasks.base import Request
from zoo.tasks.language_modelling import Message
from zoo.tasks.nulls import without_nulls

Json = dict[str, Any]

SAID = {"role": "user", "content": "a"}
CHAT = {"model": "rnn-talk", "messages": [SAID], "max_tokens": 2, "temperature": 0}
COMPLETION = {"model": "rnn-letters", "prompt": "a", "max_tokens": 2, "temperature": 0}
PARTS: dict[type[BaseModel], Json] = {
    ChatMessage: SAID,
    ChatRequest: CHAT,
    CompletionRequest: COMPLETION,
    JsonSchema: {"name": "a"},
    Message: SAID,
    ResponseFormat: {"type": "text"},
    StreamOptions: {},
    TextPart: {"type": "text", "text": "a"},
}
"""The least of each, but for the zoo's own requests, whose examples the service gives."""


def subclasses(kind: type[BaseModel]) -> set[type[BaseModel]]:
    own = set(kind.__subclasses__())
    return own.union(*map(subclasses, own))


def test_the_table_is_complete() -> None:
    assert set(PARTS) == subclasses(OpenRequest) - {WritingRequest} | {Message}
    assert subclasses(Request) == {operation.request_type for operation in OPERATIONS}


def names(kind: type[BaseModel], required: bool) -> list[str]:
    """The fields' names in JSON."""
    fields = kind.model_fields.items()
    return [field.alias or name for name, field in fields if field.is_required() == required]


@pytest.mark.parametrize("kind", PARTS)
def test_parts_of_requests(kind: type[BaseModel]) -> None:
    least = kind.model_validate(PARTS[kind])
    for name in names(kind, required=False):
        assert kind.model_validate({name: None, **PARTS[kind]}) == least
        assert name in PARTS[kind] or kind.model_validate({**PARTS[kind], name: None}) == least
    for name in names(kind, required=True):
        with pytest.raises(ValidationError) as raised:
            kind.model_validate({**PARTS[kind], name: None})
        assert [(e["type"], e["loc"]) for e in raised.value.errors()] == [("missing", (name,))]


def test_unknown_fields_stay() -> None:
    assert without_nulls(StreamOptions, {"include_usage": None, "other": None}) == {"other": None}
    assert without_nulls(StreamOptions, [None]) == [None]


@pytest.fixture(scope="module")
def examples(server: Any) -> dict[str, Json]:
    """A request that each endpoint answers."""
    found: dict[str, Json] = {}
    for entry in httpx.get(f"{server.url}/models").json()["models"]:
        found.setdefault(entry["endpoint"], entry["example_request"])
    image = {name: found["/classify_image"][name] for name in ("model", "image")}
    answer = {"model": "rnn-talk", "passage": "a b", "question": "b", "max_tokens": 2}
    return {**found, "/explain_image": image, "/answer": answer}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.endpoint)
def test_the_zoos_own_requests(client: httpx.Client, examples: dict[str, Json], operation: Operation) -> None:
    example, kind = examples[operation.endpoint], operation.request_type
    nulls = {name: None for name in names(kind, required=False) if name not in example}
    for fields in (nulls, *({name: None} for name in nulls)):
        response = client.post(operation.endpoint, json={**example, **fields})
        assert response.status_code == 200, (fields, response.text)
    for name in names(kind, required=True):
        problem = refused(client.post(operation.endpoint, json={**example, name: None}), 422)
        assert problem["error"] == f"{name}: Field required"
    unknown = client.post(operation.endpoint, json={**example, "unknown": None})
    refused(unknown, 422, "unknown")


def test_nulls_in_forms(client: httpx.Client, examples: dict[str, Json]) -> None:
    fields = {**examples["/classify_image"], "top_k": "null", "pixels": "null"}
    assert client.post("/classify_image", files={k: (None, v) for k, v in fields.items()}).status_code == 200


def test_nested_messages(client: httpx.Client) -> None:
    asked = {"model": "rnn-talk", "max_tokens": 2, "messages": [{"role": "user", "content": None}]}
    problem = refused(client.post("/generate_text", json=asked), 422)
    assert problem["error"] == "messages[0].content: Field required"


def text_of(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    return choice.get("text", choice.get("message"))


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/v1/completions", COMPLETION, CompletionRequest),
        ("/v1/chat/completions", CHAT, ChatRequest),
    ],
)
def test_openai(client: httpx.Client, path: str, body: Json, kind: type[BaseModel]) -> None:
    told = text_of(client.post(path, json=body))
    nulls = dict.fromkeys((*names(kind, required=False), "tools", "user", "unknown"))
    nested = {
        "stream_options": {"include_usage": None},
        "response_format": {"type": "text", "json_schema": None},
    }
    for fields in (nulls, *({name: None} for name in nulls), nested):
        assert text_of(client.post(path, json={**fields, **body})) == told
    for name in names(kind, required=True):
        response = client.post(path, json={**body, name: None})
        assert response.status_code == 400
        error = response.json()["error"]
        assert (error["param"], error["code"]) == (name, "missing_required_parameter")


def test_a_schema_that_is_null(client: httpx.Client) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": None, "strict": None}}
    with_null = client.post("/v1/chat/completions", json={**CHAT, "response_format": wanted})
    del wanted["json_schema"]["schema"]  # type: ignore[attr-defined]
    without = client.post("/v1/chat/completions", json={**CHAT, "response_format": wanted})
    assert with_null.status_code == without.status_code
    assert with_null.json().get("error") == without.json().get("error")


@pytest.mark.parametrize(
    "content", [None, [{"type": "text", "text": None}], [{"type": None, "text": "a"}]], ids=str
)
def test_content_that_is_null(client: httpx.Client, content: Any) -> None:
    messages = [{"role": "user", "content": content}]
    response = client.post("/v1/chat/completions", json={**CHAT, "messages": messages})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "missing_required_parameter"
    assert response.json()["error"]["param"].startswith("messages[0].content")


NOTHING: list[Json] = [
    {"top_logprobs": 0},
    {"logprobs": False, "top_logprobs": 0},
    {"logprobs": False},
    {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"},
    {"functions": [{"name": "f"}], "function_call": "none"},
    {"tools": [], "tool_choice": "auto"},
    {"stream_options": {"include_usage": False}},
    {"stream_options": {}, "stream": False},
    {"messages": [{**SAID, "tool_calls": None, "name": None}]},
]


@pytest.mark.parametrize("fields", NOTHING, ids=str)
def test_what_asks_for_nothing_is_as_if_absent(client: httpx.Client, fields: Json) -> None:
    path = "/v1/chat/completions"
    assert text_of(client.post(path, json={**CHAT, **fields})) == text_of(client.post(path, json=CHAT))
    if not fields.keys() & {"messages", "top_logprobs"}:
        completions = [client.post("/v1/completions", json={**COMPLETION, **more}) for more in (fields, {})]
        assert text_of(completions[0]) == text_of(completions[1])
        assert completions[0].json()["choices"][0]["logprobs"] is None


@pytest.mark.parametrize(
    "fields", [{"top_logprobs": 1}, {"tools": [{}]}, {"tools": [{}], "tool_choice": "auto"}], ids=str
)
def test_what_asks_for_something_is_refused(client: httpx.Client, fields: Json) -> None:
    assert client.post("/v1/chat/completions", json={**CHAT, **fields}).status_code == 400


TENSOR = {"name": "features", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        *(({"id": None, "parameters": None, "outputs": None, "inputs": [TENSOR]}, None),),
        *(({"inputs": [{**TENSOR, "parameters": p}]}, None) for p in (None, {"binary_data_size": None})),
        *(
            ({"inputs": [TENSOR], "outputs": [{"name": "value", "parameters": p}]}, None)
            for p in (None, {"classification": None, "binary_data": None})
        ),
        *(({"inputs": [TENSOR], "parameters": {p: None}}, None) for p in sorted(OF_THE_PROTOCOL)),
        *(({"inputs": [{**TENSOR, name: None}]}, name) for name in TENSOR),
        ({"inputs": [TENSOR], "outputs": [{"name": None}]}, "name"),
        ({"inputs": None}, "inputs"),
    ],
    ids=json.dumps,
)
def test_v2(client: httpx.Client, body: Json, missing: str | None) -> None:
    response = client.post("/v2/models/diabetes/infer", json=body)
    if missing is None:
        assert response.json()["outputs"][0]["data"] == [6]
    else:
        refused_v2(response, 400, missing)


@pytest.mark.parametrize(
    ("model", "parameters", "given"),
    [("rnn-letters", SAMPLING, {"max_tokens": 3}), ("transformer-echo", BEAMS, {"beam_size": 1})],
)
def test_v2_generates(client: httpx.Client, model: str, parameters: tuple[str, ...], given: Json) -> None:
    path = f"/v2/models/{model}/generate"
    nulls = dict.fromkeys((*parameters, "stream", *sorted(OF_THE_PROTOCOL)))
    for body in (
        {**nulls, **given},
        {"parameters": {**nulls, **given}},
        {**nulls, "parameters": given},
        {**given, "parameters": nulls},
        {"id": None, "parameters": None, **given},
    ):
        response = client.post(path, json={"text_input": "a", **body})
        assert response.status_code == 200, response.text
        if "max_tokens" in given:
            assert len(response.json()["text_output"]) == 3
    twice = {**given, "parameters": given}
    refused_v2(client.post(path, json={"text_input": "a", **twice}), 400, "given twice")
    refused_v2(client.post(path, json={"text_input": None}), 400, "text_input: required")
    refused_v2(client.post(path, json={"text_input": "a", "unknown": None}), 400, "unknown")
