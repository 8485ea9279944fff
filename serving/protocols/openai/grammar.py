"""`response_format`: constrains texts to JSON by a mask of allowed next tokens (the library llguidance)."""

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
"""Characters that a model's tokens must include: without one, a JSON text might be begun and never ended."""
BETWEEN = r"\n? {0,16}"
"""Pattern of white space between JSON tokens; bounded, because a small model may write nothing else."""
MAX_SCHEMA = 65_536  # characters
SCHEMA_PLACE = "response_format.json_schema.schema"
"""Request field that errors about a schema name."""


class Json:
    """Constraint that makes one text JSON of the wanted form."""

    def __init__(self, matcher: LLMatcher, ends: frozenset[int], tokens: "_Tokens") -> None:
        """`ends` are the model's end tokens; there may be none."""
        self._matcher = matcher
        self._ends = sorted(ends)
        self._tokens = tokens

    def allowed(self) -> NDArray[np.bool_]:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        mask = np.unpackbits(bits, bitorder="little").astype(np.bool_)
        end = self._tokens.eos_token_id
        allowed = mask[:end]
        allowed[self._tokens.special] = False  # a tokenizer writes one of them for an unknown character
        allowed[self._ends] = mask[end]
        if self._matcher.is_error() or not allowed.any():
            raise InvalidInput("response_format: the text cannot go on by this schema in the model's tokens")
        return allowed

    def accept(self, token: int) -> bool:
        self._matcher.consume_token(token)
        # Without an end token, a text ends as soon as it is valid, even within a number that could go on.
        return bool(self._matcher.is_stopped() if self._ends else self._matcher.is_accepting())


class JsonGrammar:
    """A JSON schema, compiled for the tokens of a model."""

    def __init__(self, task: LanguageModelling, wanted: ResponseFormat) -> None:
        """Raises `Problem` if the model lacks a character of JSON, or if the schema is invalid."""
        place = place_of(wanted)
        if missing := sorted(letter for letter in NEEDED if letter.encode() not in task.token_bytes):
            raise refusal(f"{place}: this model writes no JSON: it has no {missing[0]!r}", place)
        self._ends, self._tokens = task.ends, _tokens(task)
        self._matcher = matcher_of(schema_of(wanted), self._tokens.trie)
        if self._matcher.is_error():
            raise refusal(f"{place}: {reason_of(self._matcher)}", place)

    def begin(self) -> Json:
        """Returns a new constraint, for one text."""
        return Json(self._matcher.deep_copy(), self._ends, self._tokens)


def place_of(wanted: ResponseFormat) -> str:
    """Returns the request field that errors about the wanted form name."""
    return "response_format" if wanted.json_schema is None else SCHEMA_PLACE


def schema_of(wanted: ResponseFormat) -> str:
    """Returns the schema as one line of JSON; raises `Problem` if it exceeds the bounds."""
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
    """A task's tokens in llguidance's format, and one more token that ends a text."""

    bos_token_id = None

    def __init__(self, task: LanguageModelling) -> None:
        self._codec = Tokenizer.from_str(task.tokenizer)
        self._codec.encode_special_tokens = True  # text that looks like a special token is not one
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
