"""Conversations to fine-tune a chat model on, and any file of them as a data set: `--dataset chat:PATH`.

A file has one conversation per line, `{"messages": [{"role": "user", "content": "…"}, …]}`, the usual format
for fine-tuning chat models. A split holds `conversations`, uint8 [L]: such lines as UTF-8. Conversations that
begin with the same user message are in the same split.

Shape legend: L bytes.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from training import datasets
from training.datasets.base import Data, slug
from training.datasets.pairs import group_draw
from training.datasets.text_file import read_lines
from zoo.errors import InvalidInput
from zoo.tasks import Schema
from zoo.tasks.conversations import CONVERSATIONS
from zoo.tasks.language_modelling import Message

PREFIX = "chat:"
KIND = "language_modelling"
TEST_SHARE = 0.2
MIN_CONVERSATIONS = 10  # in a file: a fifth of fewer is too small to measure anything

Conversation = list[Message]
_MESSAGES = TypeAdapter(Conversation)


def dataset_name(reference: str) -> str:
    """Returns the data set's name; for a file, its stem in lower case with words joined by hyphens."""
    if not reference.startswith(PREFIX):
        return reference
    return slug(Path(reference.removeprefix(PREFIX)).stem, "chat")


def load_conversations(reference: str) -> Data:
    """Loads the data set with this name, or the file, without duplicate conversations.

    `NotFound` if there is no such file; `InvalidInput` for the first line that is no conversation, or for too
    few conversations.
    """
    if not reference.startswith(PREFIX):
        return datasets.find(reference).load()
    path = Path(reference.removeprefix(PREFIX)).expanduser()
    return split_conversations(dataset_name(reference), path.name, read_conversations(path))


def read_conversations(path: Path) -> list[Conversation]:
    """Reads a file of conversations, each ending with an answer; errors as in `load_conversations`."""
    return [_read(line, number, path.name) for number, line in enumerate(read_lines(path), start=1)]


def split_conversations(name: str, source: str, conversations: Iterable[Conversation]) -> Data:
    """Splits conversations by their first user message: about a fifth of them are for testing."""
    lines = list(dict.fromkeys(map(as_line, conversations)))
    train, test = _split(lines, 0, TEST_SHARE)
    if len(lines) < MIN_CONVERSATIONS or not train or not test:
        raise InvalidInput(
            f"{source} has {len(lines)} different conversations, {len(test)} of them for testing; at least "
            f"{MIN_CONVERSATIONS} are needed, with different beginnings"
        )
    return Data(name, KIND, Schema(), source, _joined(train), _joined(test))


def hold_out_conversations(data: Data, share: float) -> Data:
    """Moves about a `share` of the training split to a validation split; with a share of 0, there is none."""
    if share == 0:
        return data
    lines = data.train[CONVERSATIONS].tobytes().decode().splitlines()
    train, held = _split(lines, TEST_SHARE, TEST_SHARE + (1 - TEST_SHARE) * share)
    if not train or not held:
        raise InvalidInput(
            f"{data.name} has too few conversations to hold out {share} of them for validation"
        )
    return replace(data, train=_joined(train), validation=_joined(held), held_out_of=data.digest)


def as_line(conversation: Conversation) -> str:
    """Formats a conversation as one line of JSON."""
    return json.dumps({"messages": [message.model_dump() for message in conversation]})


def _read(line: str, number: int, name: str) -> Conversation:
    try:
        conversation = _MESSAGES.validate_python(json.loads(line)["messages"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f'line {number} of {name} is not {{"messages": [{{"role": …, "content": …}}, …]}}: {line!r:.80}'
        ) from error
    roles = [message.role for message in conversation]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or turns != ["user", "assistant"] * (len(turns) // 2):
        raise InvalidInput(
            f"line {number} of {name}: after a system message, if there is one, user and assistant take "
            f"turns until an answer; here come {', '.join(roles) or 'no messages'}"
        )
    return conversation


def _split(lines: Iterable[str], least: float, most: float) -> tuple[list[str], list[str]]:
    """Returns the other lines, and those with a `group_draw` of the first user message in [least, most)."""
    kept: list[str] = []
    taken: list[str] = []
    for line in lines:
        asked = next(m["content"] for m in json.loads(line)["messages"] if m["role"] == "user")
        (taken if least <= group_draw(asked.lower()) < most else kept).append(line)
    return kept, taken


def _joined(lines: Iterable[str]) -> dict[str, NDArray[np.uint8]]:
    return {CONVERSATIONS: np.frombuffer(bytearray("\n".join(lines), "utf-8"), np.uint8)}
