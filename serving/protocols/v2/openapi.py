"""OpenAPI description of the paths of the Open Inference Protocol."""

from collections.abc import Callable
from typing import Any

from serving.exchange import TENSORS

Json = dict[str, Any]
Responses = Callable[[Json, tuple[int, ...]], Json]
"""Makes the responses of an operation from the content of its answer and the statuses of its errors."""

JSON, BYTES, EVENTS = "application/json", TENSORS.decode(), "text/event-stream"
TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
PARAMETERS: Json = {"type": "object"}
READING = (404, 504)  # 504: loading a version on demand may exceed the deadline
COMPUTING = (404, 413, 415, 504)
FORBIDDEN = (403, 404)


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
DATA = {"type": "array", "items": {}, "description": "Flat, or nested as the shape says."}
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
    """Returns every path under `/v2`, with errors in this dialect's format."""

    def read(operation_id: str, summary: str, answer: Json, errors: tuple[int, ...] = ()) -> Json:
        operation = _operation(operation_id, summary, responses({JSON: {"schema": answer}}, errors))
        return {"get": operation}

    def post(
        operation_id: str, summary: str, content: Json, body: Json, errors: tuple[int, ...] = COMPUTING
    ) -> Json:
        operation = _operation(operation_id, summary, responses(content, errors))
        return {"post": {**operation, "requestBody": body}}

    def forbidden(operation_id: str, summary: str) -> Json:
        operation = post(operation_id, summary, {}, {"content": {JSON: {"schema": PARAMETERS}}}, FORBIDDEN)
        del operation["post"]["responses"]["200"]
        return operation

    def of_model(place: str, suffix: str = "") -> Json:
        """Returns the paths of a model or of one of its versions; operation ids end in `suffix`."""
        ready, generated = _record({"name": TEXT, "ready": FLAG}), {JSON: {"schema": GENERATE_ANSWER}}
        tensors = (_tensors(INFER_ANSWER), _required(INFER_REQUEST))
        prompt = _required(GENERATE_REQUEST, False)
        return {
            place: read(f"v2_model_metadata{suffix}", "Describe a model's tensors", METADATA, READING),
            f"{place}/ready": read(f"v2_model_ready{suffix}", "Check that a model answers", ready, READING),
            f"{place}/config": read(
                f"v2_model_config{suffix}", "Read Triton's configuration", CONFIG, READING
            ),
            f"{place}/stats": read(
                f"v2_model_statistics{suffix}", "Read counts and times", STATISTICS, READING
            ),
            f"{place}/infer": post(f"v2_infer{suffix}", "Compute tensors from tensors", *tensors),
            f"{place}/generate": post(f"v2_generate{suffix}", "Write a text", generated, prompt),
            f"{place}/generate_stream": post(
                f"v2_generate_stream{suffix}", "Write a text, sent in events", {EVENTS: {}}, prompt
            ),
        }

    def trace(model: str = "") -> Json:
        shown = read(f"v2_get{model}_trace_settings", "Read the settings of traces", PARAMETERS, (404,))
        return shown | forbidden(f"v2_update{model}_trace_settings", "Refused: settings are fixed")

    index = {"content": {JSON: {"schema": _record({}, ready=FLAG)}}}
    logging = read("v2_get_log_settings", "Read the settings of logs", PARAMETERS)
    paths = {
        "/v2": read("v2_server_metadata", "Describe the server and its extensions", SERVER),
        "/v2/health/live": read("v2_server_live", "Check that the process runs", _record({"live": FLAG})),
        "/v2/health/ready": read("v2_server_ready", "Check that models are loaded", _record({"ready": FLAG})),
        "/v2/models/stats": read("v2_server_statistics", "Read every version's counts and times", STATISTICS),
        "/v2/repository/index": post(
            "v2_repository_index", "List every version", {JSON: {"schema": INDEX}}, index
        ),
        "/v2/trace/setting": trace(),
        "/v2/logging": logging | forbidden("v2_update_log_settings", "Refused: settings are fixed"),
        "/v2/models/{model}/trace/setting": trace("_model"),
        **{
            f"/v2/repository/models/{{model}}/{action}": forbidden(
                f"v2_{action}_model", "Refused: versions follow the registry"
            )
            for action in ("load", "unload")
        },
        **of_model("/v2/models/{model}"),
        **of_model("/v2/models/{model}/versions/{version}", "_version"),
    }
    for path, item in paths.items():
        named = [_in_path(name) for name in ("model", "version") if f"{{{name}}}" in path]
        paths[path] = {**item, "parameters": [*named, *([BINARY_DATA] if path.endswith("/infer") else [])]}
    return paths


def _operation(operation_id: str, summary: str, responses: Json) -> Json:
    return {"tags": ["v2"], "operationId": operation_id, "summary": summary, "responses": responses}


def _tensors(schema: Json) -> Json:
    return {JSON: {"schema": schema}, BYTES: {}}


def _required(schema: Json, binary: bool = True) -> Json:
    content = {JSON: {"schema": schema}}
    if binary:
        content[BYTES] = {"schema": {"type": "string", "format": "binary"}}
    return {"required": True, "content": content}


def _in_path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": TEXT}
