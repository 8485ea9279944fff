"""One of the texts that a request asks for, while it is being written."""

from serving.context import RequestContext
from zoo.tasks.writing import Noted, Writing


class Choice:
    """A text, and how much of it was told."""

    def __init__(self, index: int, writing: Writing, echo: str, context: RequestContext) -> None:
        """`echo` stands before what is written; `context` is this text's alone."""
        self.index = index
        self.writing = writing
        self.echo = echo
        self.context = context
        self._letters = 0
        self._told = 0  # tokens

    @property
    def finish_reason(self) -> str:
        """Why it ended."""
        return "stop" if self.writing.progress.stopped else "length"

    def tell(self, piece: str) -> list[Noted]:
        """What was noted of the tokens that come with a piece; of a stop string's there is nothing."""
        self._letters += len(piece)
        noted = self.writing.progress.noted
        begin = self._told
        while self._told < len(noted) and noted[self._told].offset < self._letters:
            self._told += 1
        return noted[begin : self._told]
