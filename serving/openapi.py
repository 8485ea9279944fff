"""OpenAPI document, with examples that succeed, and the schema for BentoML's client.

Both are generated from the request and response types of the operations.
"""

from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from serving.catalogue import Catalogue, ModelDetails, ModelEntry, ModelList, lineage_header
from serving.door import is_open
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
    403: "Not a key that the service knows, a page of another site, or nothing that a client may do",
    404: "No such model",
    405: "Another method; see Allow",
    408: "The request's head did not arrive in time",
    413: "Over a size limit",
    415: "A media type or content coding that is not understood",
    421: "The Host is not a name of the service",
    422: "Well-formed, but not a request that the model takes",
    431: "The request's head is too large",
    501: "A transfer coding that is not understood",
    503: "Not ready, draining, out of memory for requests, or too many requests before it; see Retry-After",
    504: "Past the deadline",
    505: "Neither HTTP/1.1 nor HTTP/1.0",
}
ALWAYS = (400, 401, 403, 405, 408, 421, 431, 501, 503, 505)
POSTED = (404, 413, 415, 422, 504)
SCHEME = "bearer"
KEYS = {SCHEME: {"type": "http", "scheme": "bearer", "description": "One of the service's API keys."}}
TAGS = {
    "predictions": "One path for each question, over JSON objects",
    "models": "The models that answer",
    "operations": "Health, metrics and descriptions of the interface",
    "v2": "Open Inference Protocol, version 2, with Triton's extensions",
    "openai": "OpenAI's API, for language models",
}
FORM = "multipart/form-data"
PROJECT = "model-zoo-service"
LINEAGE_HEADERS = {
    lineage_header(name): {"description": f"{field.description} Not in JSON.", "schema": {"type": "string"}}
    for name, field in Lineage.model_fields.items()
}
FILES = {
    "type": "array",
    "description": "One file, or several in parts of the same name.",
    "minItems": 1,
    # Swagger UI and code generators recognize a file by OpenAPI 3.0's `format`; 3.1 has `contentMediaType`.
    "items": {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"},
}
PILLOW_IMAGE = {"type": "file", "pil": True}  # makes BentoML's client open the answer with Pillow

Json = dict[str, Any]


class Status(BaseModel):
    """State of the service."""

    status: str


class ErrorAnswer(BaseModel):
    """Reason why a request was not answered."""

    error: str
    code: str
    request_id: str


@lru_cache(maxsize=1)
def document(catalogue: Catalogue | None, locked: bool = False, open_metrics: bool = False) -> bytes:
    """Returns the OpenAPI 3.1 document as JSON, with an example for each model in the catalogue.

    `locked` is True if the service has API keys, which most paths then need; `open_metrics` exempts the
    metrics.
    """
    served: list[tuple[ModelEntry, Task]] = []
    if catalogue is not None:
        served = [(entry, catalogue.find(entry.name).task) for entry in catalogue.entries]
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    if served:
        name["example"] = served[0][0].name
    paths: Json = {o.endpoint: {"post": _prediction(o, served)} for o in OPERATIONS}
    paths |= {
        "/models": {"get": _reading("models", "list_models", "List the names that answer", ModelList, ())},
        "/models/{name}": {
            "get": {
                **_reading("models", "get_model", "Describe a model", ModelDetails, (404,)),
                "parameters": [name],
            }
        },
        "/livez": {"get": _reading("operations", "get_live", "Check that the process runs", Status, ())},
        "/readyz": {"get": _reading("operations", "get_ready", "Check that models are loaded", Status, ())},
        "/metrics": {"get": _plain("get_metrics", "Read counts and times for Prometheus", "text/plain")},
        "/docs.json": {"get": _plain("get_openapi_document", "Read this document", JSON)},
        "/schema.json": {"get": _plain("get_bentoml_schema", "Read the schema for BentoML's client", JSON)},
        **v2_paths(partial(_responses, error=V2_ERROR)),
        **openai_paths(partial(_responses, error=OPENAI_ERROR), served),
    }
    forms = {_form_name(o): _form(o, served) for o in OPERATIONS if o.request_type.files}
    components: Json = {"schemas": _schemas() | forms}
    if locked:
        components["securitySchemes"] = KEYS
        locked_items = [item for path, item in paths.items() if not is_open(path, open_metrics)]
        for item in locked_items:
            for method in item.keys() & {"get", "post"}:
                item[method]["security"] = [{SCHEME: []}]
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Model zoo",
                "version": project_version(),
                "description": "Every model of the zoo, by its registered name or by its data set's. "
                "Each answer says which version gave it.",
            },
            "servers": [{"url": "."}],
            "tags": [{"name": name, "description": described} for name, described in TAGS.items()],
            "paths": paths,
            "components": components,
        }
    )


def project_version() -> str:
    """Returns the version of the installed project; 0.0.0 in a Bento, which has only its sources."""
    try:
        return version(PROJECT)
    except PackageNotFoundError:
        return "0.0.0"


@lru_cache(maxsize=1)
def bentoml_schema() -> bytes:
    """Returns the schema from which `bentoml.SyncHTTPClient` creates methods such as `client.classify`."""
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
    examples = _examples(operation, served)
    content: Json = {JSON: {"schema": _reference(operation.request_type), "examples": examples}}
    if operation.request_type.files:
        content[FORM] = {"schema": {"$ref": REFERENCES.format(model=_form_name(operation))}}
    return {
        "tags": ["predictions"],
        "operationId": operation.name,
        "summary": (operation.request_type.__doc__ or "").replace(
            "`", ""
        ),  # plain text, by the specification
        "requestBody": {"required": True, "content": content},
        "responses": _responses(_answer(operation.response_type, operation.media_types), POSTED),
    }


def _examples(operation: Operation, served: list[tuple[ModelEntry, Task]]) -> Json:
    """Returns an example request for each model that supports the operation, by model name."""
    return {
        entry.name: {"value": example}
        for entry, task in served
        if type(task) is operation.task_type and (example := operation.example(task, entry.example_request))
    }


def _form(operation: Operation, served: list[tuple[ModelEntry, Task]]) -> Json:
    """Returns the schema of a multipart form: the request's files and single values, without other lists."""
    files = operation.request_type.files
    schema = _with_files(operation.request_type.model_json_schema(ref_template=REFERENCES), operation, FILES)
    fields = {
        name: field for name, field in schema["properties"].items() if name in files or not _is_list(field)
    }
    fields["model"] = {**fields["model"], "examples": list(_examples(operation, served))}
    about = {"title": _form_name(operation), "description": "The request as a form with files."}
    return {**schema, **about, "required": [*schema["required"], *files], "properties": fields}


def _form_name(operation: Operation) -> str:
    return f"{operation.request_type.__name__.removesuffix('Request')}Form"


def _is_list(field: Json) -> bool:
    return any(choice.get("type") == "array" for choice in (field, *field.get("anyOf", ())))


def _reading(
    tag: str, operation_id: str, summary: str, answer: type[BaseModel], errors: tuple[int, ...]
) -> Json:
    responses = _responses(_answer(answer), errors)
    return {"tags": [tag], "operationId": operation_id, "summary": summary, "responses": responses}


def _plain(operation_id: str, summary: str, media_type: str) -> Json:
    responses = _responses({media_type: {}}, ())
    return {"tags": ["operations"], "operationId": operation_id, "summary": summary, "responses": responses}


def _answer(answer: type[BaseModel], media_types: tuple[str, ...] = (JSON,)) -> Json:
    return {name: {"schema": _reference(answer)} if name == JSON else {} for name in media_types}


def _responses(content: Json, errors: tuple[int, ...], error: Json | None = None) -> Json:
    """Returns the responses of a path: its answer, and the errors of all paths plus `errors`.

    `error` is the schema of an error; by default the zoo's own.
    """
    refusal = {JSON: {"schema": _reference(ErrorAnswer) if error is None else error}}
    headers = {"headers": LINEAGE_HEADERS} if content.keys() & {PNG, EVENTS} else {}
    return {
        "200": {"description": "OK", "content": content, **headers},
        **{str(s): {"description": STATUSES[s], "content": refusal} for s in sorted({*ALWAYS, *errors})},
    }


@lru_cache(maxsize=1)
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
    """Returns the schema with its file fields described as files."""
    described = {
        name: {"description": field.get("description", ""), **as_file}
        if name in operation.request_type.files
        else field
        for name, field in schema["properties"].items()
    }
    return {**schema, "properties": described}
