"""What may be asked of a fitted task: its own question, and further ones of some kinds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from zoo.tasks.base import Arrays, Draw, Generate, Request, Response, Run, Task, completed

JSON, PNG, EVENTS = "application/json", "image/png", "text/event-stream"


@dataclass(frozen=True)
class Operation:
    """A question with an endpoint of its own, answered by any model of a kind."""

    task_type: type[Task]
    endpoint: str
    request_type: type[Request]
    response_type: type[Response]
    encode: Callable[[Any, Any], Arrays]
    """Task and request to graph inputs; `InvalidInput` where they do not fit."""
    decode: Callable[[Any, Any, Arrays], dict[str, Any]]
    """Task, request and graph outputs to the answer, without its lineage, as plain Python values."""
    picture: Draw | None = None
    """Where the answer may be a PNG file instead."""
    picture_first: bool = False
    """Whether the picture is what a client gets that does not say what it accepts."""
    generate: Generate | None = None
    """Where the answer takes many runs, instead of one."""
    example: Callable[[Any, dict[str, Any]], dict[str, Any] | None] = lambda _, own: own
    """A request that a task can answer, none where it can't, made of one of the kind's own question."""

    @classmethod
    def main(cls, task_type: type[Task]) -> Self:
        """A kind's own question."""
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
        """What `decode` makes of all the runs that a request takes."""
        if self.generate is None:
            return self.decode(task, request, run(self.encode(task, request)))
        return self.decode(task, request, completed(self.generate(task, run, request)))

    @property
    def own(self) -> bool:
        """Whether it is the kind's own question."""
        return self.endpoint == self.task_type.endpoint

    @property
    def name(self) -> str:
        """The endpoint without its slash."""
        return self.endpoint.strip("/")

    @property
    def media_types(self) -> tuple[str, ...]:
        """What an answer may be, the default first."""
        if self.picture is None:
            return (JSON,) if self.request_type.streamed is Request.streamed else (JSON, EVENTS)
        return (PNG, JSON) if self.picture_first else (JSON, PNG)
