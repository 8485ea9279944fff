"""How likely tokens were, in the form of each of the two paths."""

from collections.abc import Sequence
from typing import Any

from zoo.tasks.writing import Noted

LEAST = -9999.0  # for minus infinity, as OpenAI has it: JSON has no infinity

ENTRIES_PER_MILLISECOND = 300
"""Tokens, those beside others included, that are rendered in a millisecond; 300 to 2,000 were measured."""
ENTRY_BYTES = 700
"""Memory of one of them while it is rendered, its JSON included; 70 to 680 were measured."""

Words = Sequence[bytes]
"""What each token writes, by its number."""


def count_entries(noted: Sequence[Noted]) -> int:
    """Returns how many tokens are told of one text; each that was written has the same number beside it."""
    return len(noted) * (1 + len(noted[0].top)) if noted else 0


def of_chat(noted: Sequence[Noted], words: Words) -> dict[str, Any]:
    """A list of tokens, each with the likeliest beside it."""
    content = [
        {
            **_entry(one.token, one.logprob, words),
            "top_logprobs": [_entry(token, logprob, words) for token, logprob in one.top],
        }
        for one in noted
    ]
    return {"content": content, "refusal": None}


def of_completion(noted: Sequence[Noted], words: Words, before: int) -> dict[str, Any]:
    """Four lists; `before` letters stand before the text that was written."""
    return {
        "tokens": [_shown(words[one.token]) for one in noted],
        "token_logprobs": [max(one.logprob, LEAST) for one in noted],
        # The one that was written is always there, so that there may be one more than asked for.
        "top_logprobs": [
            {
                _shown(words[token]): max(logprob, LEAST)
                for token, logprob in (*one.top, (one.token, one.logprob))
            }
            for one in noted
        ],
        "text_offset": [before + one.offset for one in noted],
    }


def _entry(token: int, logprob: float, words: Words) -> dict[str, Any]:
    word = words[token]
    return {"token": _shown(word), "logprob": max(logprob, LEAST), "bytes": list(word)}


def _shown(word: bytes) -> str:
    return word.decode(errors="backslashreplace")  # a part of a letter is shown by its bytes
