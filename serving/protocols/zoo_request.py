"""Bodies of the zoo's own endpoints: JSON objects and multipart forms to valid requests."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import from_json
from starlette.datastructures import UploadFile

from serving.catalogue import Served
from serving.memory import Body
from serving.problem import Problem
from serving.protocols.byte_order_mark import without_mark
from serving.protocols.multipart_form import MultipartForm
from zoo.tasks import Operation, Task
from zoo.tasks.base import MAX_BATCH, Request

MULTIPART = b"multipart/form-data"
MAX_FIELDS = 32  # a form's fields that are not files
UNION_MEMBERS = ("str", "bytes", "int", "float", "constrained-str")  # as pydantic calls them in a place
REPORTED = 5  # wrong fields that a message names
COUNTLESS = 1000  # wrong fields whose report alone would take long
BEYOND_NUMBER = "number out of range"  # an integer of thousands of digits: valid JSON all the same

Find = Callable[[str], Served]
"""What answers to a name; `NotFound` where nothing does."""
Parse = Callable[[Operation, Find], Request]


def parse_json(body: Body, operation: Operation, find: Find) -> Request:
    """The request of a JSON body.

    Problems: 400 malformed, 404 where it names no model, 422 against the schema, another kind's among them.
    """
    body = without_mark(body)
    try:
        return operation.request_type.model_validate(orjson.loads(body))
    except ValueError:  # of either; slower, pydantic alone finds the words for it, or allows it after all
        pass
    try:
        return operation.request_type.model_validate_json(body)
    except ValidationError as error:
        if (
            error.error_count() == 1
            and (first := error.errors(include_input=False)[0])["type"] == "json_invalid"
        ):
            if BEYOND_NUMBER in first["msg"]:
                raise Problem(422, "invalid_request", first["msg"]) from None
            raise Problem(400, "malformed_json", first["msg"]) from None
        given = from_json(body)
        raise _invalid(error, given if isinstance(given, dict) else {}, operation, find) from None


def parse_form(headers: list[tuple[bytes, bytes]], body: Body, operation: Operation, find: Find) -> Request:
    """The request of a multipart form; files are bytes in it.

    Problems: 400 malformed, 415 where a part is a pickle, 422 where a field is given twice; others as JSON.
    """
    fields = form_fields(headers, body, operation.request_type.files)
    try:
        return operation.request_type.model_validate(fields)
    except ValidationError as error:
        raise _invalid(error, fields, operation, find) from None


def form_fields(headers: list[tuple[bytes, bytes]], body: Body, files: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a multipart form, as the JSON body would have them, but for files, which are bytes."""
    # Images may come as text, too.
    form = MultipartForm(headers, body, files, MAX_BATCH, MAX_FIELDS + MAX_BATCH).fields()
    fields: dict[str, Any] = {}
    try:
        for name in form:
            values = [_value(name, part, name in files) for part in form.getlist(name)]
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


def _invalid(error: ValidationError, given: Mapping[str, Any], operation: Operation, find: Find) -> Problem:
    """What to tell the sender of a request that does not fit the endpoint's schema."""
    name = given.get("model")
    if isinstance(name, str) and name:
        served = find(name)  # a model that is not there goes before the fields that it would take
        if not isinstance(served.task, operation.task_type):
            return wrong_endpoint(name, served.task)
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
    insides = [place for place in reports if place.endswith("]") or "." in place]
    for place in [p for p in reports if any(i.startswith((f"{p}[", f"{p}.")) for i in insides)]:
        del reports[place]
    return reports


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
