"""OpenAPI description of the paths of OpenAI's API."""

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel

from serving.catalogue import ModelEntry
from serving.protocols.openai.request import ChatRequest, CompletionRequest
from zoo.tasks import Task
from zoo.tasks.language_modelling import LanguageModelling, Usage

Json = dict[str, Any]
Responses = Callable[[Json, tuple[int, ...]], Json]
"""Makes the responses of an operation from the content of its answer and the statuses of its errors."""

JSON, EVENTS = "application/json", "text/event-stream"
REFERENCES = "#/components/schemas/"
TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "integer"}
REQUESTS: tuple[type[BaseModel], ...] = (CompletionRequest, ChatRequest)
"""Pydantic models that the document's components must include."""
GREETING = [{"role": "user", "content": "Hello!"}]
COMPUTING = (404, 413, 415, 504)


def _record(**fields: Json) -> Json:
    return {"type": "object", "required": list(fields), "properties": fields}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _of(model: str) -> Json:
    return {"$ref": REFERENCES + model}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


ERROR = _record(
    error=_record(message=TEXT, type=TEXT, param=_or_null(TEXT), code=TEXT),
)
MODEL = _record(id=TEXT, object={"const": "model"}, created=NUMBER, owned_by=TEXT, lineage=_of("Lineage"))
LIST = _record(object={"const": "list"}, data=_list(MODEL))
CHOICE = {
    "index": NUMBER,
    "logprobs": _or_null({"type": "object"}),
    "finish_reason": {"enum": ["stop", "length"]},
}
MESSAGE = _record(role={"const": "assistant"}, content=TEXT, refusal={"type": "null"})


def _answer(name: str, **choice: Json) -> Json:
    return _record(
        id=TEXT,
        object={"const": name},
        created=NUMBER,
        model=TEXT,
        system_fingerprint=TEXT,
        choices=_list(_record(**CHOICE, **choice)),
        usage=_of(Usage.__name__),
        lineage=_of("Lineage"),
    )


def openai_paths(responses: Responses, served: Iterable[tuple[ModelEntry, Task]]) -> Json:
    """Returns every path under `/v1`, with errors in this dialect's format and an example for each model."""

    def read(operation_id: str, summary: str, answer: Json, errors: tuple[int, ...] = ()) -> Json:
        operation = {
            "tags": ["openai"],
            "operationId": operation_id,
            "summary": summary,
            "responses": responses({JSON: {"schema": answer}}, errors),
        }
        return {"get": operation}

    def post(operation_id: str, request: type[BaseModel], answer: Json, examples: Json) -> Json:
        operation: Json = {
            "tags": ["openai"],
            "operationId": operation_id,
            "summary": request.__doc__,
            "requestBody": {
                "required": True,
                "content": {JSON: {"schema": _of(request.__name__), "examples": examples}},
            },
            "responses": responses({JSON: {"schema": answer}, EVENTS: {}}, COMPUTING),
        }
        return {"post": operation}

    texts: Json = {}
    conversations: Json = {}
    for entry, task in served:
        if isinstance(task, LanguageModelling):
            texts[entry.name] = {"value": entry.example_request}
            if task.chat is not None:
                conversations[entry.name] = {"value": {"model": entry.name, "messages": GREETING}}
    model = {"name": "model", "in": "path", "required": True, "schema": TEXT}
    completion, chat = _answer("text_completion", text=TEXT), _answer("chat.completion", message=MESSAGE)
    one = read("get_language_model", "Describe a language model", MODEL, (404,))
    return {
        "/v1/models": read("list_language_models", "List the language models", LIST),
        "/v1/models/{model}": {**one, "parameters": [model]},
        "/v1/completions": post("create_completion", CompletionRequest, completion, texts),
        "/v1/chat/completions": post("create_chat_completion", ChatRequest, chat, conversations),
    }
