"""`response_format`: texts that are JSON, by a mask of what may come next (the library llguidance)."""

import json
from functools import lru_cache
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray
from tokenizers import Tokenizer

from serving.protocols.openai.problem import blaming, refusal
from serving.protocols.openai.request import ResponseFormat
from serving.protocols.openai.schema_bounds import require_bounded
from serving.protocols.openai.schema_matcher import matcher_of, reason_of
from zoo.errors import InvalidInput
from zoo.tasks.language_modelling import LanguageModelling

NEEDED = frozenset('{}[]":,\\/.+-0123456789abcdefABCDEFlnrstu')
"""Letters without which JSON might be begun and could not be ended."""
BETWEEN = r"\n? {0,16}"
"""White space, bounded: a small model may like nothing better."""
MAX_SCHEMA = 65_536  # letters
SCHEMA_PLACE = "response_format.json_schema.schema"
"""The field that a problem with a schema is about."""


class Json:
    """One text, which is JSON of a form."""

    def __init__(self, matcher: LLMatcher, ends: frozenset[int], tokens: "_Tokens") -> None:
        """The model's own `ends` may be none."""
        self._matcher = matcher
        self._ends = sorted(ends)
        self._tokens = tokens

    def allowed(self) -> NDArray[np.bool_]:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        mask = np.unpackbits(bits, bitorder="little").astype(np.bool_)
        end = self._tokens.eos_token_id
        allowed = mask[:end]
        allowed[self._tokens.special] = False  # of letters that there are not, a tokenizer makes one of them
        allowed[self._ends] = mask[end]
        if self._matcher.is_error() or not allowed.any():
            raise InvalidInput("response_format: the text cannot go on by this schema in the model's tokens")
        return allowed

    def accept(self, token: int) -> bool:
        self._matcher.consume_token(token)
        # A text that no token ends is over as soon as it may be, even a number of which there could be more.
        return bool(self._matcher.is_stopped() if self._ends else self._matcher.is_accepting())


class JsonGrammar:
    """A form of JSON in the tokens of a model."""

    def __init__(self, task: LanguageModelling, wanted: ResponseFormat) -> None:
        """`Problem` where the model has not the letters, or the schema is none."""
        place = place_of(wanted)
        if missing := sorted(letter for letter in NEEDED if letter.encode() not in task.token_bytes):
            raise refusal(f"{place}: this model writes no JSON: it has no {missing[0]!r}", place)
        self._ends, self._tokens = task.ends, _tokens(task)
        self._matcher = matcher_of(schema_of(wanted), self._tokens.trie)
        if self._matcher.is_error():
            raise refusal(f"{place}: {reason_of(self._matcher)}", place)

    def begin(self) -> Json:
        """The constraint of one text."""
        return Json(self._matcher.deep_copy(), self._ends, self._tokens)


def place_of(wanted: ResponseFormat) -> str:
    """The field that a problem with the form of JSON is about."""
    return "response_format" if wanted.json_schema is None else SCHEMA_PLACE


def schema_of(wanted: ResponseFormat) -> str:
    """The schema as one line of JSON; `Problem` if it is beyond the bounds."""
    if wanted.json_schema is None:
        schema: dict[str, Any] = {"type": "object"}
    else:
        schema = wanted.json_schema.json_schema
    place = place_of(wanted)
    with blaming(place):
        require_bounded(schema)
    text = json.dumps({**schema, "x-guidance": {"whitespace_pattern": BETWEEN}})
    if len(text) > MAX_SCHEMA:
        raise refusal(f"{place}: over {MAX_SCHEMA:,} letters", place)
    return text


class _Tokens:
    """A task's tokens as llguidance wants them, with one more, with which a text ends."""

    bos_token_id = None

    def __init__(self, task: LanguageModelling) -> None:
        self._codec = Tokenizer.from_str(task.tokenizer)
        self._codec.encode_special_tokens = True  # a text that looks like one is none
        added = self._codec.get_added_tokens_decoder()
        special = task.ends | {number for number, token in added.items() if token.special}
        words = (b"" if number in special else word for number, word in enumerate(task.token_bytes))
        self.tokens = [*words, b"<end>"]
        self.eos_token_id = len(self.tokens) - 1
        self.special = sorted(special)
        self.special_token_ids = [self.eos_token_id]
        self.trie = LLTokenizer(TokenizerWrapper(self))

    def __call__(self, text: bytes | str) -> list[int]:
        plain = text if isinstance(text, str) else text.decode(errors="replace")
        return list(self._codec.encode(plain, add_special_tokens=False).ids)


@lru_cache(maxsize=8)
def _tokens(task: LanguageModelling) -> _Tokens:
    return _Tokens(task)
