"""The OpenAPI document, with examples that succeed, and the schema that BentoML's client asks for.

Both are made of the operations' own request and response types.
"""

from functools import lru_cache, partial
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from serving.catalogue import Catalogue, ModelDetails, ModelEntry, ModelList, lineage_header
from serving.protocols.openai.openapi import ERROR as OPENAI_ERROR
from serving.protocols.openai.openapi import REQUESTS, openai_paths
from serving.protocols.v2.openapi import ERROR as V2_ERROR
from serving.protocols.v2.openapi import v2_paths
from zoo.tasks import OPERATIONS, Operation, Task
from zoo.tasks.base import Lineage
from zoo.tasks.operation import EVENTS, JSON, PNG

REFERENCES = "#/components/schemas/{model}"
STATUSES = {
    400: "Malformed HTTP, JSON, form or header",
    401: "The service has keys, and this request brought none",
    403: "Not a key that the service knows, or nothing that a client may do",
    404: "No such model",
    405: "Another method; see Allow",
    408: "The request's head did not arrive in time",
    413: "Over a size limit",
    415: "A media type or content coding that is not understood",
    422: "Well-formed, but not a request that the model takes",
    431: "The request's head is too large",
    503: "Not ready, draining, or the queue is full; see Retry-After",
    504: "Past the deadline",
}
ALWAYS = (400, 405, 408, 431, 503)
POSTED = (401, 403, 404, 413, 415, 422, 504)
KEYS = {"bearer": {"type": "http", "scheme": "bearer", "description": "Where the service has keys."}}
LINEAGE_HEADERS = {
    lineage_header(name): {"description": f"{field.description} Not in JSON.", "schema": {"type": "string"}}
    for name, field in Lineage.model_fields.items()
}
PILLOW_IMAGE = {"type": "file", "pil": True}  # BentoML's client opens such an answer with Pillow

Json = dict[str, Any]


class Status(BaseModel):
    """How the service is."""

    status: str


class ErrorAnswer(BaseModel):
    """Why a request was not answered."""

    error: str
    code: str
    request_id: str


@lru_cache(maxsize=1)
def document(catalogue: Catalogue | None) -> bytes:
    """OpenAPI 3.1 as JSON, with an example for each model in the catalogue."""
    served: list[tuple[ModelEntry, Task]] = []
    if catalogue is not None:
        served = [(entry, catalogue.find(entry.name).task) for entry in catalogue.entries]
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    if served:
        name["example"] = served[0][0].name
    paths: Json = {o.endpoint: {"post": _prediction(o, served)} for o in OPERATIONS}
    paths |= {
        "/models": {"get": _reading("models", "Every name that answers", ModelList, ())},
        "/models/{name}": {
            "get": {**_reading("models", "All about one name", ModelDetails, (404,)), "parameters": [name]}
        },
        "/livez": {"get": _reading("operations", "Whether the process runs", Status, ())},
        "/readyz": {"get": _reading("operations", "Whether models are loaded", Status, ())},
        "/metrics": {"get": _plain("Counts and times, for Prometheus", "text/plain")},
        "/docs.json": {"get": _plain("This document", JSON)},
        "/schema.json": {"get": _plain("What BentoML's client asks for", JSON)},
        **v2_paths(partial(_responses, error=V2_ERROR)),
        **openai_paths(partial(_responses, error=OPENAI_ERROR), served),
    }
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Model zoo",
                "version": "1",
                "description": "Every model of the zoo, by its registered name or by its data set's. "
                "Each answer says which version gave it.",
            },
            "servers": [{"url": "."}],
            "paths": paths,
            "components": {"schemas": _schemas(), "securitySchemes": KEYS},
        }
    )


@lru_cache(maxsize=1)
def bentoml_schema() -> bytes:
    """What `bentoml.SyncHTTPClient` makes its methods of: `client.classify(model=..., rows=...)`."""
    routes = [
        {
            "name": o.name,
            "route": o.endpoint,
            "doc": o.request_type.__doc__,
            "input": _with_files(o.request_type.model_json_schema(), o, {"type": "file"}),
            "output": PILLOW_IMAGE if o.picture_first else o.response_type.model_json_schema(),
        }
        for o in OPERATIONS
    ]
    return orjson.dumps({"name": "ZooService", "type": "service", "routes": routes})


def _prediction(operation: Operation, served: list[tuple[ModelEntry, Task]]) -> Json:
    reference = _reference(operation.request_type)
    examples: Json = {}
    for entry, task in served:
        if type(task) is operation.task_type and (example := operation.example(task, entry.example_request)):
            examples[entry.name] = {"value": example}
    content: Json = {JSON: {"schema": reference, "examples": examples}}
    if operation.request_type.files:
        form = operation.request_type.model_json_schema(ref_template=REFERENCES)
        binary = {"type": "array", "items": {"type": "string", "contentMediaType": "image/*"}}
        content["multipart/form-data"] = {"schema": _with_files(form, operation, binary)}
    return {
        "tags": ["predictions"],
        "operationId": operation.name,
        "summary": operation.request_type.__doc__,
        "security": [{}, {"bearer": []}],
        "requestBody": {"required": True, "content": content},
        "responses": _responses(_answer(operation.response_type, operation.media_types), POSTED),
    }


def _reading(tag: str, summary: str, answer: type[BaseModel], errors: tuple[int, ...]) -> Json:
    return {"tags": [tag], "summary": summary, "responses": _responses(_answer(answer), errors)}


def _plain(summary: str, media_type: str) -> Json:
    return {"tags": ["operations"], "summary": summary, "responses": _responses({media_type: {}}, ())}


def _answer(answer: type[BaseModel], media_types: tuple[str, ...] = (JSON,)) -> Json:
    return {name: {"schema": _reference(answer)} if name == JSON else {} for name in media_types}


def _responses(content: Json, errors: tuple[int, ...], error: Json | None = None) -> Json:
    """Of an answer's content, and errors beside those of every path, in the zoo's shape or another."""
    refusal = {JSON: {"schema": _reference(ErrorAnswer) if error is None else error}}
    headers = {"headers": LINEAGE_HEADERS} if content.keys() & {PNG, EVENTS} else {}
    return {
        "200": {"description": "OK", "content": content, **headers},
        **{str(s): {"description": STATUSES[s], "content": refusal} for s in sorted({*ALWAYS, *errors})},
    }


def _schemas() -> Json:
    requests = [*(operation.request_type for operation in OPERATIONS), *REQUESTS]
    predictions = list(dict.fromkeys(operation.response_type for operation in OPERATIONS))
    answers: list[type[BaseModel]] = [ModelList, ModelDetails, Status, ErrorAnswer, *predictions]
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "validation") for model in requests),
        *((model, "serialization") for model in answers),
    ]
    _, definitions = models_json_schema(wanted, ref_template=REFERENCES)
    schemas: Json = definitions["$defs"]
    return schemas


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": REFERENCES.format(model=model.__name__)}


def _with_files(schema: Json, operation: Operation, as_file: Json) -> Json:
    """The schema with its file fields described as files."""
    described = {
        name: {**as_file, "description": field.get("description", "")}
        if name in operation.request_type.files
        else field
        for name, field in schema["properties"].items()
    }
    return {**schema, "properties": described}
