"""The paths of the Open Inference Protocol in OpenAPI's terms."""

from collections.abc import Callable
from typing import Any

from serving.exchange import TENSORS

Json = dict[str, Any]
Responses = Callable[[Json, tuple[int, ...]], Json]
"""The responses of an operation: of the content of an answer, and the statuses of its errors."""

JSON, BYTES, EVENTS = "application/json", TENSORS.decode(), "text/event-stream"
TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
PARAMETERS: Json = {"type": "object"}
READING = (400, 404, 504)  # a version that is not loaded takes time, and has a deadline
COMPUTING = (400, 401, 403, 404, 413, 415, 504)
FORBIDDEN = (401, 403, 404)


def _record(required: Json, **optional: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


SHAPE = _list({"type": "integer"})
TENSOR = _record({"name": TEXT, "datatype": TEXT, "shape": SHAPE})
LINEAGE = {"$ref": "#/components/schemas/Lineage"}
ERROR = _record({"error": TEXT})
SERVER = _record({"name": TEXT, "version": TEXT, "extensions": _list(TEXT)})
METADATA = _record(
    {
        "name": TEXT,
        "versions": _list(TEXT),
        "platform": TEXT,
        "inputs": _list(TENSOR),
        "outputs": _list(TENSOR),
    }
)
CONFIG = _record({"name": TEXT, "max_batch_size": {"type": "integer"}, "input": _list(PARAMETERS)})
STATISTICS = _record({"model_stats": _list(_record({"name": TEXT, "version": TEXT}))})
INDEX = _list(_record({"name": TEXT, "version": TEXT, "state": TEXT, "reason": TEXT}))
DATA = {"type": "array", "description": "Flat, or nested as the shape says."}
INFER_REQUEST = _record(
    {"inputs": _list({**TENSOR, "properties": {**TENSOR["properties"], "data": DATA}})},
    id=TEXT,
    parameters=PARAMETERS,
    outputs=_list(_record({"name": TEXT}, parameters=PARAMETERS)),
)
INFER_ANSWER = _record(
    {"model_name": TEXT, "model_version": TEXT, "parameters": LINEAGE, "outputs": _list(TENSOR)}, id=TEXT
)
GENERATE_REQUEST = _record({"text_input": TEXT}, parameters=PARAMETERS)
GENERATE_ANSWER = _record(
    {"model_name": TEXT, "model_version": TEXT, "text_output": TEXT, "parameters": LINEAGE}
)
BINARY_DATA = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "Bytes of the body that are JSON; those of the tensors come behind.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}


def v2_paths(responses: Responses) -> Json:
    """Every path under `/v2`, its errors in the dialect's shape."""

    def read(summary: str, answer: Json, errors: tuple[int, ...] = ()) -> Json:
        content = {JSON: {"schema": answer}}
        return {"get": {"tags": ["v2"], "summary": summary, "responses": responses(content, errors)}}

    def post(summary: str, content: Json, body: Json, errors: tuple[int, ...] = COMPUTING) -> Json:
        posted = {"tags": ["v2"], "summary": summary, "responses": responses(content, errors)}
        return {"post": {**posted, "requestBody": body, "security": [{}, {"bearer": []}]}}

    def forbidden(summary: str) -> Json:
        operation = post(summary, {}, {"content": {JSON: {"schema": PARAMETERS}}}, FORBIDDEN)
        del operation["post"]["responses"]["200"]
        return operation

    def of_model(place: str) -> Json:
        return {
            place: read("A model's tensors", METADATA, READING),
            f"{place}/ready": read("Whether it answers", _record({"name": TEXT, "ready": FLAG}), READING),
            f"{place}/config": read("Its configuration in Triton's form", CONFIG, READING),
            f"{place}/stats": read("Its counts and times", STATISTICS, READING),
            f"{place}/infer": post("Tensors to tensors", _tensors(INFER_ANSWER), _required(INFER_REQUEST)),
            f"{place}/generate": post(
                "A text to a text", {JSON: {"schema": GENERATE_ANSWER}}, _required(GENERATE_REQUEST, False)
            ),
            f"{place}/generate_stream": post(
                "A text to events", {EVENTS: {}}, _required(GENERATE_REQUEST, False)
            ),
        }

    index = {"content": {JSON: {"schema": _record({}, ready=FLAG)}}}
    trace = read("Nothing is traced by this protocol", PARAMETERS, (404,)) | forbidden("Settings are fixed")
    paths = {
        "/v2": read("The server and its extensions", SERVER),
        "/v2/health/live": read("Whether the process runs", _record({"live": FLAG})),
        "/v2/health/ready": read("Whether models are loaded", _record({"ready": FLAG})),
        "/v2/models/stats": read("Every version's counts and times", STATISTICS),
        "/v2/repository/index": post("Every version", {JSON: {"schema": INDEX}}, index),
        "/v2/trace/setting": trace,
        "/v2/logging": read("How the server logs", PARAMETERS) | forbidden("Settings are fixed"),
        "/v2/models/{model}/trace/setting": trace,
        **{
            f"/v2/repository/models/{{model}}/{action}": forbidden("Versions follow the registry")
            for action in ("load", "unload")
        },
        **of_model("/v2/models/{model}"),
        **of_model("/v2/models/{model}/versions/{version}"),
    }
    for path, item in paths.items():
        named = [_in_path(name) for name in ("model", "version") if f"{{{name}}}" in path]
        paths[path] = {**item, "parameters": [*named, *([BINARY_DATA] if path.endswith("/infer") else [])]}
    return paths


def _tensors(schema: Json) -> Json:
    return {JSON: {"schema": schema}, BYTES: {}}


def _required(schema: Json, binary: bool = True) -> Json:
    return {"required": True, "content": _tensors(schema) if binary else {JSON: {"schema": schema}}}


def _in_path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": TEXT}
