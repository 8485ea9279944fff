"""`zoo chat`: a conversation with a model of the running service over OpenAI's API; answers are streamed."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from zoo.errors import InvalidInput, NotFound, ZooError
from zoo.service_client import SERVICE_URL, Refused, events, fetch
from zoo.terminal import printable
from zoo.word_wrap import WordWrap

TOO_LONG = "context_length_exceeded"  # OpenAI's error code
TURN = 2  # messages per turn: a question and its answer

Message = dict[str, str]


@dataclass(frozen=True)
class Chat:
    """Chat with a model of the running service; Ctrl-C ends its answer, Ctrl-D the conversation."""

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Registered model; without it, the best one that holds conversations."""
    system: str | None = None
    """System message: instructions to the model before the conversation."""
    max_tokens: int = 512
    """Maximum number of tokens in an answer."""
    temperature: float = 0.7
    """Sampling temperature: 0 always takes the likeliest token; above 1 is more random."""
    url: str = SERVICE_URL
    """URL of the service."""

    def __call__(self) -> None:
        name = best_model(self.url) if self.name is None else self.name
        watched = sys.stdin.isatty()
        if watched:
            print(f"{printable(name)} at {self.url}. Ctrl-C ends an answer, Ctrl-D the conversation.\n")
        messages = [] if self.system is None else [_message("system", self.system)]
        for text in _typed(watched):
            messages.append(_message("user", text))
            try:
                messages.append(_message("assistant", self._answer(name, messages, watched)))
            except ZooError as error:
                if not watched:
                    raise
                messages.pop()
                print(f"zoo: {printable(str(error), sys.stderr)}\n", file=sys.stderr)

    def _answer(self, name: str, messages: list[Message], watched: bool) -> str:
        """Prints the model's answer as it arrives and returns it; after Ctrl-C, the part received so far."""
        written = ""
        shown = WordWrap(shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
        try:
            for piece in self._pieces(name, messages):
                written += piece  # before showing it, so that the text shown at Ctrl-C is in the history
                shown.add(printable(piece))
        except KeyboardInterrupt:
            if not watched:
                raise
        shown.end()
        if watched:
            print()
        return written

    def _pieces(self, name: str, messages: list[Message]) -> Iterator[str]:
        """Yields the answer in pieces; drops the oldest turns while the conversation exceeds the context."""
        body: dict[str, Any] = {"model": name, "stream": True, "messages": messages}
        body |= {"max_tokens": self.max_tokens, "temperature": self.temperature}
        begin = 0 if self.system is None else 1
        while True:
            try:
                for event in events(f"{self.url}/v1/chat/completions", body):
                    for choice in event["choices"]:
                        yield choice["delta"].get("content") or ""
                return
            except Refused as refused:
                if refused.code != TOO_LONG or len(messages) - begin <= TURN:
                    raise
                del messages[begin : begin + TURN]


def best_model(url: str) -> str:
    """Returns the name of the service's chat model with the fewest bits per character."""
    listed = fetch(f"{url}/v1/models")["data"]
    names: list[str] = sorted({entry["lineage"]["model"] for entry in listed if entry.get("chat")})
    if not names:
        raise NotFound(f"no model at {url} holds conversations; zoo train smollm2 makes one that does")
    metrics = {entry["name"]: entry["metrics"] for entry in fetch(f"{url}/models")["models"]}
    return min(names, key=lambda name: float(metrics[name]["bits_per_character"]))


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _typed(watched: bool) -> Iterator[str]:
    """Yields the non-empty lines of the standard input until it ends."""
    if watched:
        with contextlib.suppress(ImportError):  # some Python builds lack it
            import readline  # noqa: F401 - adds line editing, and history with the arrow keys
    while True:
        try:
            text = input("> " if watched else "").strip()
        except EOFError:
            if watched:
                print()
            return
        except UnicodeDecodeError as error:
            raise InvalidInput(f"the standard input is not UTF-8: {error}") from error
        except KeyboardInterrupt:
            if not watched:
                raise
            print()
            continue
        if text:
            yield text
