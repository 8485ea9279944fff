"""Errors in the format of OpenAI's API: status 400 for an invalid request, with the name of the field."""

from collections.abc import Iterator
from contextlib import contextmanager

from serving.problem import Problem, problem_of
from zoo.errors import InvalidInput, TextTooLong


def openai_problem_of(error: Exception) -> Problem:
    """Returns the problem for an exception, with status 400 in place of 422."""
    problem = problem_of(error)
    if problem.status == 422:
        problem.status = 400
    return problem


def refusal(message: str, field: str | None, code: str = "invalid_value") -> Problem:
    """Returns the problem of a request with an invalid field."""
    return Problem(400, code, message, field=field)


@contextmanager
def blaming(field: str) -> Iterator[None]:
    """Turns `InvalidInput` from a task into a problem that names the given request field."""
    try:
        yield
    except TextTooLong as error:
        raise refusal(str(error), field, "context_length_exceeded") from None
    except InvalidInput as error:
        raise refusal(str(error), field) from None
