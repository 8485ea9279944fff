"""Conversations as examples: the model reads all tokens, and the assistant's answers are the targets.

Shape legend: N conversations, T tokens, L bytes.
"""

import json
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from zoo.errors import InvalidInput
from zoo.tasks.base import Arrays
from zoo.tasks.chat import Chat

CONVERSATIONS = "conversations"
"""Name of the array in a split of conversations: uint8 [L], one JSON object with `messages` per line."""
UNSAID = -1  # target of tokens outside the assistant's answers

Tokens = NDArray[np.int64]


def conversation_examples(split: Arrays, chat: Chat, codec: Tokenizer, most: int) -> Arrays:
    """Returns `tokens` [N, T] and `target` [N, T]: the token that follows each, or UNSAID outside answers.

    Rows are sorted by length, shortest first, padded with their last token, and cut after `most` tokens.
    Raises `InvalidInput` if no conversation has an answer within `most` tokens.
    """
    rows = []
    for line in split[CONVERSATIONS].tobytes().decode().splitlines():
        parts = [
            (codec.encode(text, add_special_tokens=False).ids, said)
            for text, said in _parts(json.loads(line)["messages"], chat)
        ]
        tokens = np.array([token for ids, _ in parts for token in ids], np.int64)
        said = np.concatenate([np.full(len(ids), is_said) for ids, is_said in parts])
        target = np.where(said, tokens, UNSAID)[1 : most + 1]
        if (target != UNSAID).any():
            rows.append((tokens[: len(target)], target))
    if not rows:
        raise InvalidInput(f"no conversation of the split has an answer within {most} tokens")
    rows.sort(key=lambda row: len(row[0]))
    longest = len(rows[-1][0])
    return {
        "tokens": np.stack([np.pad(tokens, (0, longest - len(tokens)), "edge") for tokens, _ in rows]),
        "target": np.stack(
            [np.pad(target, (0, longest - len(target)), constant_values=UNSAID) for _, target in rows]
        ),
    }


def lengths(target: Tokens) -> Tokens:
    """Returns the number of tokens [N] of each row of targets [N, T], up to the last that is not UNSAID."""
    found: Tokens = target.shape[1] - (target != UNSAID)[:, ::-1].argmax(axis=1)
    return found


def _parts(messages: list[dict[str, str]], chat: Chat) -> Iterator[tuple[str, bool]]:
    """Yields the conversation's text in parts, each with True if the model is to write it.

    Parts end where a request's prompt would end, so their tokens are those of a request and its answer.
    """
    read = 0
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before, after = chat.render(messages[:place]), chat.render(messages[: place + 1], asks=False)
        answered = message["content"] + chat.ends[0]
        if not after.startswith(before + answered):
            raise InvalidInput("the chat template does not write an answer down where it asks for one")
        yield before[read:], False
        yield answered, True
        read = len(before) + len(answered)
