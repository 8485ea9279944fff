"""Log probabilities of tokens, in the formats of the two paths."""

from collections.abc import Sequence
from typing import Any

from zoo.tasks.writing import Noted

LEAST = -9999.0  # stands for minus infinity, which JSON lacks; the same value as OpenAI's

ENTRIES_PER_MILLISECOND = 300
"""Entries, alternatives included, that are rendered per millisecond; 300 to 2,000 were measured."""
ENTRY_BYTES = 700
"""Memory of one entry while it is rendered, its JSON included; 70 to 680 were measured."""

Words = Sequence[bytes]
"""Bytes of each token, by token id."""


def count_entries(noted: Sequence[Noted]) -> int:
    """Returns the number of entries of one text; each of its tokens has the same number of alternatives."""
    return len(noted) * (1 + len(noted[0].top)) if noted else 0


def of_chat(noted: Sequence[Noted], words: Words) -> dict[str, Any]:
    """Returns a list of tokens, each with its likeliest alternatives."""
    content = [
        {
            **_entry(one.token, one.logprob, words),
            "top_logprobs": [_entry(token, logprob, words) for token, logprob in one.top],
        }
        for one in noted
    ]
    return {"content": content, "refusal": None}


def of_completion(noted: Sequence[Noted], words: Words, before: int) -> dict[str, Any]:
    """Returns four lists; `before` is the number of characters before the generated text."""
    return {
        "tokens": [_shown(words[one.token]) for one in noted],
        "token_logprobs": [max(one.logprob, LEAST) for one in noted],
        # The written token is always included, so there may be one more entry than asked for.
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
    return word.decode(errors="backslashreplace")  # an incomplete character is shown by its bytes
