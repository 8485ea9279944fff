"""Bodies of the zoo's own endpoints: JSON objects and multipart forms to valid requests."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import from_json
from starlette.datastructures import UploadFile

from serving.child_process import Ask
from serving.json_size import MAX_VALUES, JsonSize, json_size
from serving.memory import Body
from serving.problem import Problem
from serving.protocols.byte_order_mark import without_mark
from serving.protocols.multipart_form import MultipartForm
from zoo.tasks import OPERATIONS, Arrays, Operation, Task
from zoo.tasks.base import MAX_BATCH, Request

MULTIPART = b"multipart/form-data"
MAX_FIELDS = 32  # of a request; of a form those that are not files
UNION_MEMBERS = ("str", "bytes", "int", "float", "constrained-str")  # as pydantic calls them in a place
REPORTED = 5  # wrong fields that a message names
COUNTLESS = 1000  # wrong fields whose report alone would take long
STEP = re.compile(r"[.\[]")  # where a place in a request goes one level deeper
QUICKLY_PARSED = 4 << 20
"""Bytes of a JSON text that a thread may parse a second time, to find words for what is wrong with it."""
BEYOND_NUMBER = "number out of range"  # an integer of thousands of digits: valid JSON all the same

Find = Callable[[str], Task]
"""Returns the task of the model that a name stands for; `NotFound` where there is none."""
Parse = Callable[[Operation, Find], Request]


def require_holdable(size: JsonSize, operation: Operation) -> None:
    """Refuses a JSON body, before it is parsed, with more lists and objects than any request can hold."""
    kind = operation.request_type
    if size.lists + size.objects > kind.max_lists + kind.max_lists_per_digit * size.digits:
        message = f"the body has {size.lists + size.objects:,} lists and objects; no request holds so many"
        raise Problem(422, "invalid_request", message)


def read_request(parse: Parse, operation: Operation, ask: Ask) -> tuple[Request, Arrays]:
    """Returns the valid request and its graph's inputs; no inputs where the answer takes many runs.

    `ask` answers "find" as of `Find`, and "assign" with the task that is to answer, another kind's refused.
    """
    request = parse(operation, partial(ask, "find"))
    task = ask("assign", request.model)
    return request, operation.encode(task, request) if operation.generate is None else {}


def read_large_json(body: Body, endpoint: str, ask: Ask) -> tuple[Request, Arrays]:
    """Does what `read_request` does, in a child process: numbers return in the arrays alone."""
    operation = next(operation for operation in OPERATIONS if operation.endpoint == endpoint)
    request, inputs = read_request(partial(parse_json, body, longest=len(body)), operation, ask)
    return request.without_inputs() if inputs else request, inputs


def parse_json(body: Body, operation: Operation, find: Find, longest: int = QUICKLY_PARSED) -> Request:
    """The request of a JSON body; of one over `longest` bytes, less is said of what is malformed.

    Problems: 400 malformed, 404 where it names no model, 422 against the schema, another kind's among them.
    """
    body = without_mark(body)
    try:
        given = orjson.loads(body)
    except ValueError as error:
        if len(body) > longest:
            raise Problem(400, "malformed_json", f"Invalid JSON: {error}") from None
        given = _loads(body)  # slower, but it has words for what is wrong, and reads longer numbers
    return _validated(given, operation, find)


def parse_form(headers: list[tuple[bytes, bytes]], body: Body, operation: Operation, find: Find) -> Request:
    """The request of a multipart form; files are bytes in it.

    Problems: 400 malformed, 415 where a part is a pickle, 422 where a field is given twice; others as JSON.
    """
    return _validated(form_fields(headers, body, operation.request_type.files), operation, find)


def form_fields(headers: list[tuple[bytes, bytes]], body: Body, files: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a multipart form, as the JSON body would have them, but for files, which are bytes."""
    # Images may come as text, too.
    form = MultipartForm(headers, body, files, MAX_BATCH, MAX_FIELDS + MAX_BATCH).fields()
    fields: dict[str, Any] = {}
    try:
        for name in form:
            parts = form.getlist(name)
            if sum(json_size(part.encode()).values for part in parts if isinstance(part, str)) > MAX_VALUES:
                message = f"{_short(name)}: over {MAX_VALUES:,} values; send so many in a JSON body"
                raise Problem(413, "too_large", message)
            values = [_value(name, part, name in files) for part in parts]
            if len(values) > 1 and name not in files:
                raise Problem(422, "invalid_request", f"{_short(name)}: given {len(values)} times")
            fields[name] = values if len(values) > 1 else values[0]
    finally:
        for _, part in form.multi_items():
            if isinstance(part, UploadFile):
                part.file.close()
    return fields


def _value(name: str, part: UploadFile | str, is_file: bool) -> Any:
    if isinstance(part, str):
        # BentoML's client sends every field as JSON, curl and browsers send plain text.
        as_text = (is_file or name == "model") and not part.startswith('"')
        try:
            return part if as_text else from_json(part)
        except ValueError:
            return part
    if "pickle" in (part.content_type or ""):
        raise Problem(415, "unsupported_media_type", "pickles are never read")
    if not is_file:
        raise Problem(422, "invalid_request", f"{_short(name)}: not expected as a file")
    return part.file.read()


def _loads(body: Body) -> Any:
    """The value of a JSON text; `Problem` 400 where it is malformed, 422 for a number of too many digits."""
    try:
        return from_json(body)
    except ValueError as error:
        message = f"Invalid JSON: {error}"
        if BEYOND_NUMBER in message:
            raise Problem(422, "invalid_request", message) from None
        raise Problem(400, "malformed_json", message) from None


def _validated(given: Any, operation: Operation, find: Find) -> Request:
    kind = operation.request_type
    fields = given if isinstance(given, dict) else {}
    if len(fields) > MAX_FIELDS:  # pydantic would report each one
        _require_kind(fields, operation, find)
        known = {field.alias or name for name, field in kind.model_fields.items()}
        unknown = [_short(name) for name in islice((name for name in fields if name not in known), REPORTED)]
        surplus = f"{len(fields)} fields are too many; unknown are {', '.join(unknown)} and others"
        raise Problem(422, "invalid_request", surplus)
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise _invalid(error, fields, operation, find) from None


def _require_kind(fields: Mapping[str, Any], operation: Operation, find: Find) -> None:
    """Refuses a model that is not there, or is of another kind, whatever else is wrong with the request."""
    name = fields.get("model")
    if isinstance(name, str) and name:
        task = find(name)
        if not isinstance(task, operation.task_type):
            raise wrong_endpoint(name, task)


def _invalid(error: ValidationError, given: Mapping[str, Any], operation: Operation, find: Find) -> Problem:
    """What to tell the sender of a request that does not fit the endpoint's schema."""
    _require_kind(given, operation, find)
    if error.error_count() > COUNTLESS:
        return Problem(422, "invalid_request", f"{error.error_count()} fields do not fit the schema")
    reports = reported(error)
    shown = [f"{place}: {text}" if place else text for place, text in list(reports.items())[:REPORTED]]
    if len(reports) > REPORTED:
        shown.append(f"and {len(reports) - REPORTED} more")
    return Problem(422, "invalid_request", "; ".join(shown))


def reported(error: ValidationError) -> dict[str, str]:
    """What is wrong, by the place in the request."""
    reports: dict[str, str] = {}
    details = error.errors(include_url=False, include_context=False, include_input=False)
    # Of a union's members one has the type that came, and says what is wrong with it.
    for detail in sorted(details, key=lambda detail: detail["type"].endswith("_type")):
        reports.setdefault(_place(detail["loc"]), detail["msg"].removeprefix("Value error, "))
    # Of a union each member reports: what is wrong inside one says more than that it is not another.
    outer = {place[: step.start()] for place in reports for step in STEP.finditer(place)}
    return {place: text for place, text in reports.items() if place not in outer}


def wrong_endpoint(name: str, task: Task) -> Problem:
    """A model of another kind was asked for."""
    return Problem(422, "wrong_endpoint", f"{name!r} is a model of another kind: POST to {task.endpoint}")


def _place(location: tuple[str | int, ...]) -> str:
    """`rows[0].age` of pydantic's location, without the names of a union's members."""
    place = ""
    for step in location:
        if isinstance(step, int):
            place += f"[{step}]"
        elif "[" not in step and not (place and step in UNION_MEMBERS):
            place += f".{_short(step)}" if place else _short(step)
    return place


def _short(name: str) -> str:
    return name if len(name) <= 64 else f"{name[:64]}..."
