"""Errors of requests: a status, a code and a message, in the format of each HTTP dialect."""

import logging
import traceback
from collections.abc import Mapping
from typing import Any, Literal

import orjson

from serving.turns import DeadlineExceeded, Overloaded
from zoo.errors import InputTooLarge, InvalidInput, NotFound

log = logging.getLogger(__name__)

RETRY_AFTER = {"Retry-After": "1"}  # seconds: the queue is short, and loading takes no longer

Dialect = Literal["zoo", "v2", "openai"]


class Problem(Exception):
    """Error answer to a request."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        field: str | None = None,
    ) -> None:
        """`field` is the field of the request that is wrong, if any."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers: Mapping[str, str] = {} if headers is None else headers
        self.field = field

    def __reduce__(self) -> tuple[Any, ...]:  # by default, exceptions are pickled with their message only
        return Problem, (self.status, self.code, self.message, dict(self.headers), self.field)


def problem_json(dialect: Dialect, problem: Problem, request_id: bytes) -> bytes:
    """Returns the body of an error answer as JSON."""
    shape: dict[str, Any]
    if dialect == "v2":
        shape = {"error": problem.message}
    elif dialect == "openai":
        kind = "server_error" if problem.status >= 500 else "invalid_request_error"
        shape = {
            "error": {
                "message": problem.message,
                "type": kind,
                "param": problem.field,
                "code": problem.code,
            }
        }
    else:
        shape = {"error": problem.message, "code": problem.code, "request_id": request_id.decode()}
    return orjson.dumps(shape)


def draining() -> Problem:
    """Problem after SIGTERM; closes the connection, which could not serve another request."""
    headers = {**RETRY_AFTER, "Connection": "close"}
    return Problem(503, "draining", "the service is being ended; try again later", headers)


def not_ready() -> Problem:
    """Problem while the first models are being loaded."""
    return Problem(503, "not_ready", "the models are still being loaded", RETRY_AFTER)


def not_listed() -> Problem:
    """Problem while the registry or the folder of bundles cannot be read."""
    text = "the versions cannot be listed, and are tried again within seconds; the log says why"
    return Problem(503, "not_ready", text, RETRY_AFTER)


def none_loaded(champions: int) -> Problem:
    """Problem while none of the `champions` named by the source could be loaded."""
    text = f"none of {champions} champions could be loaded; GET /models/NAME and the log say why"
    return Problem(503, "not_ready", text, RETRY_AFTER)


def stuck() -> Problem:
    """Problem while every thread has been busy with one job for longer than any request may take."""
    return Problem(
        503, "stuck", "every thread has been busy with one job for longer than the deadline", RETRY_AFTER
    )


# The order matters: `InputTooLarge` is an `InvalidInput`, too.
DOMAIN: tuple[tuple[type[Exception], int, str, Mapping[str, str]], ...] = (
    (InputTooLarge, 413, "too_large", {}),
    (InvalidInput, 422, "invalid_input", {}),
    (NotFound, 404, "not_found", {}),
    (DeadlineExceeded, 504, "deadline_exceeded", {}),
)


def problem_of(error: Exception) -> Problem:
    """Converts an exception; logs an unexpected one and returns a problem without internal details."""
    problem = _problem_of(error)
    let_go(error)
    return problem


def let_go(error: BaseException | None) -> None:
    """Clears the frames in the tracebacks of an error and of the errors that caused it.

    The frames hold the request's body, and form reference cycles with the future that raised the error. Until
    the collector found them, a few refused bodies of the largest size would be gigabytes.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        before = error.__cause__ or error.__context__
        error.__cause__ = error.__context__ = None
        error = before


def _problem_of(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, Overloaded):
        return Problem(503, "overloaded", str(error), {"Retry-After": str(error.retry_after)})
    for kind, status, code, headers in DOMAIN:
        if isinstance(error, kind):
            return Problem(status, code, str(error), headers)
    log.error("a request failed", exc_info=error)
    return Problem(500, "internal", "the service failed to answer; its log says why")
