"""State of one of the texts that a request asks for, while it is generated."""

from serving.context import RequestContext
from zoo.tasks.writing import Noted, Writing


class Choice:
    """A text that is being generated, and how much of it has been sent."""

    def __init__(self, index: int, writing: Writing, echo: str, context: RequestContext) -> None:
        """`echo` is put before the generated text; `context` belongs to this text alone."""
        self.index = index
        self.writing = writing
        self.echo = echo
        self.context = context
        self._letters = 0
        self._told = 0  # number of tokens whose logprobs were returned

    @property
    def finish_reason(self) -> str:
        """`stop` if the text was stopped, otherwise `length`."""
        return "stop" if self.writing.progress.stopped else "length"

    def tell(self, piece: str) -> list[Noted]:
        """Counts a piece as sent; returns the logprobs of its tokens, without those of a stop string."""
        self._letters += len(piece)
        noted = self.writing.progress.noted
        begin = self._told
        while self._told < len(noted) and noted[self._told].offset < self._letters:
            self._told += 1
        return noted[begin : self._told]
