"""Responses in the format of OpenAI's API, as one body or as stream events."""

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

from serving.catalogue import Served
from serving.protocols.openai import logprobs
from serving.protocols.openai.choice import Choice
from serving.protocols.openai.logprobs import Words
from zoo.tasks.writing import Noted

Json = dict[str, Any]


class Answer(ABC):
    """One answer. The parts of one choice are sent in text order, those of different choices in any order."""

    prefix: ClassVar[str]
    """Prefix of the answer's id."""
    whole: ClassVar[str]
    """OpenAI's object name of a whole answer."""
    part: ClassVar[str]
    """OpenAI's object name of a stream event."""

    def __init__(self, model: str, served: Served, words: Words | None) -> None:
        """`model` is the requested name; `words` are the bytes of each token, or None for no logprobs."""
        self._served = served
        self._words = words
        self._head = {
            "id": self.prefix + secrets.token_urlsafe(18),
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"fp_{served.lineage.digest[:12]}",
        }

    def entire(self, told: Sequence[tuple[Choice, str, list[Noted]]], usage: Json) -> bytes:
        """Returns the whole answer as JSON, from each choice's text and token logprobs."""
        choices = [self._choice(choice, text, self._noted(choice, noted)) for choice, text, noted in told]
        lineage = self._served.lineage_json
        answer = {**self._head, "object": self.whole, "choices": choices, "usage": usage, "lineage": lineage}
        return orjson.dumps(answer)

    def event(self, choices: list[Json], **usage: Json | None) -> bytes:
        """Returns one stream event as JSON, with the given parts of choices."""
        return orjson.dumps({**self._head, "object": self.part, "choices": choices, **usage})

    def begun(self, choice: Choice) -> Json | None:
        """Returns the part to send before a choice's text, or None."""
        return self.piece(choice, choice.echo, []) if choice.echo else None

    @abstractmethod
    def piece(self, choice: Choice, text: str, noted: list[Noted]) -> Json:
        """Returns the part with a piece of a choice's text and the logprobs of its tokens."""

    @abstractmethod
    def ended(self, choice: Choice) -> Json:
        """Returns the part to send after a choice's text, with its finish reason."""

    @abstractmethod
    def _choice(self, choice: Choice, text: str, noted: Json | None) -> Json:
        """Returns a choice of the whole answer."""

    @abstractmethod
    def _form(self, choice: Choice, noted: list[Noted], words: Words) -> Json:
        """Returns token logprobs in the format of the path."""

    def _noted(self, choice: Choice, noted: list[Noted]) -> Json | None:
        return None if self._words is None else self._form(choice, noted, self._words)


class CompletionAnswer(Answer):
    """Answer of `/v1/completions`."""

    prefix: ClassVar[str] = "cmpl-"
    whole: ClassVar[str] = "text_completion"
    part: ClassVar[str] = "text_completion"

    def piece(self, choice: Choice, text: str, noted: list[Noted]) -> Json:
        return self._part(choice, text, self._noted(choice, noted), None)

    def ended(self, choice: Choice) -> Json:
        return self._part(choice, "", None, choice.finish_reason)

    def _choice(self, choice: Choice, text: str, noted: Json | None) -> Json:
        return self._part(choice, choice.echo + text, noted, choice.finish_reason)

    def _part(self, choice: Choice, text: str, noted: Json | None, finish_reason: str | None) -> Json:
        return {"index": choice.index, "text": text, "logprobs": noted, "finish_reason": finish_reason}

    def _form(self, choice: Choice, noted: list[Noted], words: Words) -> Json:
        return logprobs.of_completion(noted, words, len(choice.echo))


class ChatAnswer(Answer):
    """Answer of `/v1/chat/completions`."""

    prefix: ClassVar[str] = "chatcmpl-"
    whole: ClassVar[str] = "chat.completion"
    part: ClassVar[str] = "chat.completion.chunk"

    def begun(self, choice: Choice) -> Json | None:
        return self._part(choice, {"role": "assistant", "content": "", "refusal": None}, None, None)

    def piece(self, choice: Choice, text: str, noted: list[Noted]) -> Json:
        return self._part(choice, {"content": text}, self._noted(choice, noted), None)

    def ended(self, choice: Choice) -> Json:
        return self._part(choice, {}, None, choice.finish_reason)

    def _choice(self, choice: Choice, text: str, noted: Json | None) -> Json:
        message = {"role": "assistant", "content": text, "refusal": None}
        finish_reason = choice.finish_reason
        return {"index": choice.index, "message": message, "logprobs": noted, "finish_reason": finish_reason}

    def _part(self, choice: Choice, delta: Json, noted: Json | None, finish_reason: str | None) -> Json:
        return {"index": choice.index, "delta": delta, "logprobs": noted, "finish_reason": finish_reason}

    def _form(self, choice: Choice, noted: list[Noted], words: Words) -> Json:
        return logprobs.of_chat(noted, words)
