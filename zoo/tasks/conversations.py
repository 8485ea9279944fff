"""Conversations as examples: all is read, and the assistant's answers are what is to be said.

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
"""What a split of conversations holds: uint8 [L], JSON with `messages` in each line."""
UNSAID = -1  # target where nothing is to be said

Tokens = NDArray[np.int64]


def conversation_examples(split: Arrays, chat: Chat, codec: Tokenizer, most: int) -> Arrays:
    """`tokens` [N, T] and `target` [N, T]: what follows each token, if it is the assistant's, or else UNSAID.

    The shortest come first; rows are filled up with their last token, and cut after `most` tokens.
    `InvalidInput` where no conversation has an answer within that.
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
    """Tokens [N] of targets [N, T] up to the last that is to be said."""
    found: Tokens = target.shape[1] - (target != UNSAID)[:, ::-1].argmax(axis=1)
    return found


def _parts(messages: list[dict[str, str]], chat: Chat) -> Iterator[tuple[str, bool]]:
    """The conversation as the model reads it, in parts, and whether the model is to say them.

    Parts end where a request would, so that their tokens are those of a request and its answer.
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
