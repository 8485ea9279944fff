"""Operations on a fitted task: the main one of its kind and, for some kinds, further ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from zoo.tasks.base import Arrays, Draw, Generate, Request, Response, Run, Task, completed

JSON, PNG, EVENTS = "application/json", "image/png", "text/event-stream"


@dataclass(frozen=True)
class Operation:
    """A kind of request with its own endpoint, answered by any model of one kind of task."""

    task_type: type[Task]
    endpoint: str
    request_type: type[Request]
    response_type: type[Response]
    encode: Callable[[Any, Any], Arrays]
    """Converts a task and a request to graph inputs; raises `InvalidInput` if they do not fit."""
    decode: Callable[[Any, Any, Arrays], dict[str, Any]]
    """Converts a task, a request and graph outputs to the answer, without lineage, as plain Python values."""
    picture: Draw | None = None
    """Draws the answer as a PNG file; None if it cannot be one."""
    picture_first: bool = False
    """True if the PNG file is the default answer, for clients that do not say what they accept."""
    generate: Generate | None = None
    """Begins an answer that takes many runs; None if the answer takes one run."""
    example: Callable[[Any, dict[str, Any]], dict[str, Any] | None] = lambda _, own: own
    """Builds an example request for a task from an example of its kind's main operation.

    Returns None if the task cannot answer this operation.
    """

    @classmethod
    def main(cls, task_type: type[Task]) -> Self:
        """Returns the main operation of a kind."""
        return cls(
            task_type,
            task_type.endpoint,
            task_type.request_type,
            task_type.response_type,
            task_type.encode,
            task_type.decode,
            task_type.picture,
            generate=task_type.generate,
        )

    def answer(self, task: Task, run: Run, request: Request) -> dict[str, Any]:
        """Executes all runs that a request takes and returns the decoded answer."""
        if self.generate is None:
            return self.decode(task, request, run(self.encode(task, request)))
        return self.decode(task, request, completed(self.generate(task, run, request)))

    @property
    def own(self) -> bool:
        """True if this is the main operation of its kind."""
        return self.endpoint == self.task_type.endpoint

    @property
    def name(self) -> str:
        """The endpoint without its slash."""
        return self.endpoint.strip("/")

    @property
    def media_types(self) -> tuple[str, ...]:
        """Media types of an answer, the default first."""
        if self.picture is None:
            return (JSON,) if self.request_type.streamed is Request.streamed else (JSON, EVENTS)
        return (PNG, JSON) if self.picture_first else (JSON, PNG)
