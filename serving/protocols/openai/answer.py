"""Answers as OpenAI's API has them, as a whole and in parts."""

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
    """One answer; its choices' parts are told in any order, each choice's in the text's."""

    prefix: ClassVar[str]
    """Of its id."""
    whole: ClassVar[str]
    part: ClassVar[str]
    """What OpenAI calls the objects."""

    def __init__(self, model: str, served: Served, words: Words | None) -> None:
        """`model` is the name that was asked for; without `words` of the tokens nothing is said of them."""
        self._served = served
        self._words = words
        self._head = {
            "id": self.prefix + secrets.token_urlsafe(18),
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"fp_{served.lineage.digest[:12]}",
        }

    def entire(self, told: Sequence[tuple[Choice, str, list[Noted]]], usage: Json) -> bytes:
        """The whole answer, of each choice's text and what was noted of its tokens."""
        choices = [self._choice(choice, text, self._noted(choice, noted)) for choice, text, noted in told]
        lineage = self._served.lineage_json
        answer = {**self._head, "object": self.whole, "choices": choices, "usage": usage, "lineage": lineage}
        return orjson.dumps(answer)

    def event(self, choices: list[Json], **usage: Json | None) -> bytes:
        """A part of the answer."""
        return orjson.dumps({**self._head, "object": self.part, "choices": choices, **usage})

    def begun(self, choice: Choice) -> Json | None:
        """What is told of a choice before its text."""
        return self.piece(choice, choice.echo, []) if choice.echo else None

    @abstractmethod
    def piece(self, choice: Choice, text: str, noted: list[Noted]) -> Json:
        """What is told of a choice with a piece of its text."""

    @abstractmethod
    def ended(self, choice: Choice) -> Json:
        """What is told of a choice behind its text."""

    @abstractmethod
    def _choice(self, choice: Choice, text: str, noted: Json | None) -> Json:
        """A choice of the whole answer."""

    @abstractmethod
    def _form(self, choice: Choice, noted: list[Noted], words: Words) -> Json:
        """What was noted of tokens."""

    def _noted(self, choice: Choice, noted: list[Noted]) -> Json | None:
        return None if self._words is None else self._form(choice, noted, self._words)


class CompletionAnswer(Answer):
    """Of `/v1/completions`."""

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
    """Of `/v1/chat/completions`."""

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
