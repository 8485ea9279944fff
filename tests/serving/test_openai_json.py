"""`response_format`: what is written under a mask is JSON, whatever the tokens, and by the schema."""

import json
from enum import Enum
from typing import Annotated, Literal

import jsonschema
import numpy as np
import pytest
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, Field

from serving.problem import Problem
from serving.protocols.openai.grammar import NEEDED, JsonGrammar
from serving.protocols.openai.request import ResponseFormat
from zoo.errors import InvalidInput
from zoo.tasks.chat import Chat
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.sampling import Sampling
from zoo.tasks.text_tokenizer import byte_pair_tokenizer, character_tokenizer
from zoo.tasks.writing import Instructions

END = "<|end|>"
LETTERS = "".join(sorted(NEEDED)) + " \nxyzéü日"
CORPUS = ['{"name": "Ada", "age": 36, "tags": ["a", "b"], "ok": true, "none": null}'] * 9
CHAT = Chat(template="", ends=(END,))


def modelling(tokenizer: object, chat: Chat | None) -> LanguageModelling:
    return LanguageModelling(tokenizer=tokenizer.to_str(), opening="a", chat=chat)


TASKS = {
    "characters": modelling(character_tokenizer(LETTERS), None),
    "byte pairs": modelling(byte_pair_tokenizer(CORPUS, 340, (END,)), CHAT),
    "byte pairs without an end": modelling(byte_pair_tokenizer(CORPUS, 340), None),
}
OBJECT = ResponseFormat(type="json_object")


def by_schema(schema: dict) -> ResponseFormat:
    return ResponseFormat.model_validate(
        {"type": "json_schema", "json_schema": {"name": "one", "schema": schema}}
    )


class Noise:
    """Logits at random, which like to bring an object to its end."""

    def __init__(self, task: LanguageModelling, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        closing = [number for number, word in enumerate(task.token_bytes) if word in (b'"', b"}", b"]")]
        self._bias = np.zeros(task.vocabulary, np.float32)
        self._bias[[*closing, *task.ends]] = 3

    def __call__(self, inputs: dict) -> dict:
        size = (1, inputs["tokens"].shape[1], len(self._bias))
        logits = self._random.normal(size=size).astype(np.float32) + self._bias
        return {"logits": logits, "next_state": inputs["state"]}


def write(name: str, wanted: ResponseFormat, seed: int, most: int = 2000) -> tuple[str, bool]:
    """What is written, and whether it ended by itself."""
    task = TASKS[name]
    prompt, constraint = task.tokens("a"), JsonGrammar(task, wanted).begin()
    asked = Instructions(prompt, most, Sampling(), seed, top_logprobs=1, constraint=constraint)
    writing = task.writing(Noise(task, seed), asked)
    text = "".join(writing)
    assert all(np.isfinite(noted.logprob) for noted in writing.progress.noted)
    return text, writing.progress.stopped


@pytest.mark.parametrize("name", TASKS)
def test_whatever_the_model_likes_is_an_object(name: str) -> None:
    texts = [write(name, OBJECT, seed) for seed in range(12)]
    for text, ended in texts:
        assert ended, text
        assert isinstance(json.loads(text), dict)
    assert len(set(texts)) > 6


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 9},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "sex": {"enum": ["f", "é", END]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "maxItems": 3},
    },
    "required": ["name", "age", "sex"],
    "additionalProperties": False,
    "$defs": {"tag": {"type": "boolean"}},
}


@pytest.mark.parametrize("name", ["byte pairs", "byte pairs without an end"])
def test_whatever_the_model_likes_is_by_the_schema(name: str) -> None:
    seen = set()
    for seed in range(12):
        text, ended = write(name, by_schema(SCHEMA), seed)
        assert ended, text
        jsonschema.validate(json.loads(text), SCHEMA)
        seen.add(json.loads(text)["sex"])
    assert len(seen) > 1


class Color(Enum):
    RED = "r"
    BLUE = "b"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=0, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    tag: Annotated[str, Field(pattern="^[a-z]{3}-[0-9]{1,4}$")]
    weight: Annotated[float, Field(multiple_of=0.5, ge=0, le=90)] | None = None


class Owner(BaseModel):
    color: Color
    pets: Annotated[list[Annotated[Cat | Dog, Field(title="Pet")]], Field(max_length=2)]
    code: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    friend: "Owner | None"


@pytest.mark.parametrize("strict", [False, True])
def test_what_a_model_of_pydantic_asks_for(strict: bool) -> None:
    schema = to_strict_json_schema(Owner) if strict else Owner.model_json_schema()
    ended = [write("byte pairs", by_schema(schema), seed, most=4000) for seed in range(6)]
    for text, _ in [pair for pair in ended if pair[1]]:
        Owner.model_validate_json(text)
    assert any(finished for _, finished in ended)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("schema", [{"type": "integer"}, {"type": "boolean"}, {"const": "xyz"}, {}])
def test_a_value_that_is_no_object(name: str, schema: dict) -> None:
    text, ended = write(name, by_schema(schema), 3)
    assert ended
    jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize("name", TASKS)
def test_what_is_cut_is_the_beginning_of_json(name: str) -> None:
    text, ended = write(name, by_schema({"type": "array", "minItems": 50}), 1, most=20)
    assert not ended
    assert text.startswith("[")


def test_two_texts_do_not_disturb_each_other() -> None:
    grammar = JsonGrammar(TASKS["characters"], by_schema({"const": "xyz"}))
    one, other = grammar.begin(), grammar.begin()
    (quote,) = np.flatnonzero(one.allowed())
    assert not one.accept(int(quote))
    assert np.flatnonzero(other.allowed()) == quote
    assert np.flatnonzero(one.allowed()) == TASKS["characters"].codec.token_to_id("x")


def test_a_schema_in_letters_that_the_model_has_not() -> None:
    with pytest.raises(InvalidInput, match="cannot go on"):
        write("characters", by_schema({"const": "quote"}), 0)


@pytest.mark.parametrize("missing", ["}", '"', "7", "\\"])
def test_a_model_without_the_letters(missing: str) -> None:
    task = modelling(character_tokenizer(LETTERS.replace(missing, "")), None)
    with pytest.raises(Problem) as refused:
        JsonGrammar(task, OBJECT)
    assert refused.value.status == 400
    assert refused.value.field == "response_format"
    assert repr(missing) in refused.value.message


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "text"},
        {"type": "object", "unevaluatedProperties": False},
        {"$ref": "https://example.com/schema"},
        {"type": "string", "pattern": "("},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"const": "x" * 70_000},
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_a_schema_that_is_none(schema: dict) -> None:
    with pytest.raises(Problem) as refused:
        JsonGrammar(TASKS["byte pairs"], by_schema(schema))
    assert refused.value.status == 400
    assert refused.value.field == "response_format.json_schema.schema"
