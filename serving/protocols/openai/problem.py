"""Problems as OpenAI's API has them: 400 for whatever does not fit, with the name of the field."""

from collections.abc import Iterator
from contextlib import contextmanager

from serving.problem import Problem, problem_of
from zoo.errors import InvalidInput, TextTooLong


def openai_problem_of(error: Exception) -> Problem:
    """The problem that an exception means."""
    problem = problem_of(error)
    if problem.status == 422:
        problem.status = 400
    return problem


def refusal(message: str, field: str | None, code: str = "invalid_value") -> Problem:
    """A request with a field that is wrong."""
    return Problem(400, code, message, field=field)


@contextmanager
def blaming(field: str) -> Iterator[None]:
    """Says of what a task refuses which of the request's fields it is about."""
    try:
        yield
    except TextTooLong as error:
        raise refusal(str(error), field, "context_length_exceeded") from None
    except InvalidInput as error:
        raise refusal(str(error), field) from None
