"""Parsing and validation of the request bodies of the zoo's own endpoints: JSON objects and forms."""

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
MAX_FIELDS = 32  # in a request; in a form, files are not counted
UNION_MEMBERS = ("str", "bytes", "int", "float", "constrained-str")  # pydantic's names of them in a location
REPORTED = 5  # maximum number of wrong fields that a message names
COUNTLESS = 1000  # number of errors above which they are only counted: a report would take long
STEP = re.compile(r"[.\[]")  # separators in a location, where it goes one level deeper
QUICKLY_PARSED = 4 << 20
"""Maximum bytes of a malformed JSON text that is parsed a second time, for a better error message."""
BEYOND_NUMBER = "number out of range"  # message for an integer of thousands of digits, which is valid JSON

Find = Callable[[str], Task]
"""Returns the task of the model with a name; raises `NotFound` if there is none."""
Parse = Callable[[Operation, Find], Request]


def require_holdable(size: JsonSize, operation: Operation) -> None:
    """Refuses a JSON body, before it is parsed, with more lists and objects than any request can hold."""
    kind = operation.request_type
    if size.lists + size.objects > kind.max_lists + kind.max_lists_per_digit * size.digits:
        message = f"the body has {size.lists + size.objects:,} lists and objects; no request holds so many"
        raise Problem(422, "invalid_request", message)


def read_request(parse: Parse, operation: Operation, ask: Ask) -> tuple[Request, Arrays]:
    """Returns the valid request and its graph's inputs; no inputs if the answer takes many runs.

    `ask("find", name)` works like `Find`; `ask("assign", name)` returns the task that will answer, and
    refuses a model of another kind.
    """
    request = parse(operation, partial(ask, "find"))
    task = ask("assign", request.model)
    return request, operation.encode(task, request) if operation.generate is None else {}


def read_large_json(body: Body, endpoint: str, ask: Ask) -> tuple[Request, Arrays]:
    """Does the same as `read_request`, in a child process; numbers are returned only in the arrays."""
    operation = next(operation for operation in OPERATIONS if operation.endpoint == endpoint)
    request, inputs = read_request(partial(parse_json, body, longest=len(body)), operation, ask)
    return request.without_inputs() if inputs else request, inputs


def parse_json(body: Body, operation: Operation, find: Find, longest: int = QUICKLY_PARSED) -> Request:
    """Parses a JSON body; above `longest` bytes, the error for malformed JSON has less detail.

    Raises `Problem` 400 if malformed and 422 if the request violates the schema or names a model of another
    kind; `NotFound` if there is no such model.
    """
    body = without_mark(body)
    try:
        given = orjson.loads(body)
    except ValueError as error:
        if len(body) > longest:
            raise Problem(400, "malformed_json", f"Invalid JSON: {error}") from None
        given = _loads(body)  # slower, with better error messages, and reads longer numbers
    return _validated(given, operation, find)


def parse_form(headers: list[tuple[bytes, bytes]], body: Body, operation: Operation, find: Find) -> Request:
    """Parses a multipart form into a request, in which files are bytes.

    Raises `Problem` 400 if malformed, 415 if a part is a pickle, 422 if a field is given twice; otherwise
    the same errors as `parse_json`.
    """
    return _validated(form_fields(headers, body, operation.request_type.files), operation, find)


def form_fields(headers: list[tuple[bytes, bytes]], body: Body, files: tuple[str, ...]) -> dict[str, Any]:
    """Returns the fields of a multipart form as a JSON body would have them, except that files are bytes."""
    # Images may also be sent as text, so the number of fields includes them.
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
        # BentoML's client sends every field as JSON; curl and browsers send plain text.
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
    """Parses a JSON text; raises `Problem` 400 if it is malformed, 422 if a number has too many digits."""
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
    if len(fields) > MAX_FIELDS:  # pydantic would report each unknown field
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
    """Refuses a model that is missing or of another kind, before other errors of the request are reported."""
    name = fields.get("model")
    if isinstance(name, str) and name:
        task = find(name)
        if not isinstance(task, operation.task_type):
            raise wrong_endpoint(name, task)


def _invalid(error: ValidationError, given: Mapping[str, Any], operation: Operation, find: Find) -> Problem:
    """Returns the problem of a request that violates the endpoint's schema."""
    _require_kind(given, operation, find)
    if error.error_count() > COUNTLESS:
        return Problem(422, "invalid_request", f"{error.error_count()} fields do not fit the schema")
    reports = reported(error)
    shown = [f"{place}: {text}" if place else text for place, text in list(reports.items())[:REPORTED]]
    if len(reports) > REPORTED:
        shown.append(f"and {len(reports) - REPORTED} more")
    return Problem(422, "invalid_request", "; ".join(shown))


def reported(error: ValidationError) -> dict[str, str]:
    """Returns error messages by their location in the request."""
    reports: dict[str, str] = {}
    details = error.errors(include_url=False, include_context=False, include_input=False)
    # Of a union's members, the one with the type of the value has the most useful error, so it comes first.
    for detail in sorted(details, key=lambda detail: detail["type"].endswith("_type")):
        reports.setdefault(_place(detail["loc"]), detail["msg"].removeprefix("Value error, "))
    # Each member of a union reports: an error inside one member says more than that another does not match.
    outer = {place[: step.start()] for place in reports for step in STEP.finditer(place)}
    return {place: text for place, text in reports.items() if place not in outer}


def wrong_endpoint(name: str, task: Task) -> Problem:
    """Returns the problem of a request for a model of another kind."""
    return Problem(422, "wrong_endpoint", f"{name!r} is a model of another kind: POST to {task.endpoint}")


def _place(location: tuple[str | int, ...]) -> str:
    """Formats pydantic's location as `rows[0].age`, without the names of a union's members."""
    place = ""
    for step in location:
        if isinstance(step, int):
            place += f"[{step}]"
        elif "[" not in step and not (place and step in UNION_MEMBERS):
            place += f".{_short(step)}" if place else _short(step)
    return place


def _short(name: str) -> str:
    return name if len(name) <= 64 else f"{name[:64]}..."
