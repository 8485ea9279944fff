"""JSON Schemas that would take much: bounded first, and compiled where the compilation can be ended."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from contexts import due_in
from requirement import require

from serving.protocols.openai.grammar import JsonGrammar, schema_of
from serving.protocols.openai.request import ResponseFormat
from serving.protocols.openai.schema_bounds import MAX_DEPTH, MAX_PATTERN_PROPERTIES, require_bounded
from serving.protocols.openai.schema_trials import SchemaTrials, Untried
from serving.turns import DeadlineExceeded
from zoo.errors import InvalidInput
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.text_tokenizer import byte_pair_tokenizer

INTEGER = {"type": "integer"}
PRIMES = [{"type": "string", "pattern": f"^(a{{{prime}}})*$"} for prime in (983, 991, 997)]
PRODUCT = {"allOf": [{**INTEGER, "multipleOf": number} for number in (31, 37, 41, 43)]}
"""Within each bound, and an automaton of two million states."""


def arrays(depth: int) -> dict:
    schema: dict = INTEGER
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def patterns(count: int) -> dict:
    return {"patternProperties": {f"^a{i}[a-z]*x$": INTEGER for i in range(count)}}


REFERRING = {"properties": {"a": {**PRIMES[0], "$ref": "#/$defs/b"}}, "$defs": {"b": PRIMES[1]}}
TOO_LARGE = [
    ("multipleOf", {"properties": {"a": {**INTEGER, "multipleOf": 99_999_989}}}),
    ("multipleOf", {"properties": {str(n): {**INTEGER, "multipleOf": n} for n in range(900, 999)}}),
    ("multipleOf", {"type": "number", "multipleOf": 0.1234567}),
    ("multipleOf", {**INTEGER, "multipleOf": 2**63 - 1}),
    ("patternProperties", patterns(MAX_PATTERN_PROPERTIES + 1)),
    ("levels deep", arrays(MAX_DEPTH)),
    ("levels deep", {"const": json.loads("[" * 900 + "]" * 900)}),
    ("pattern", {"allOf": PRIMES}),
    ("pattern", {**PRIMES[0], "anyOf": PRIMES}),
    ("pattern", {"allOf": [{"properties": {"a": prime}} for prime in PRIMES]}),
    ("pattern", REFERRING),
]


@pytest.mark.parametrize(("keyword", "schema"), TOO_LARGE, ids=lambda value: str(value)[:40])
def test_a_schema_beyond_the_bounds(keyword: str, schema: dict) -> None:
    begun = time.process_time()
    with pytest.raises(InvalidInput, match=keyword):
        require_bounded(schema)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    "schema",
    [
        {**INTEGER, "multipleOf": 360_000_000},
        {"type": "number", "multipleOf": 0.0001},
        {"properties": {"multipleOf": {"type": "number"}, "pattern": {"type": "string"}}},
        {"properties": {str(i): {**PRIMES[0], "pattern": f"^{i}"} for i in range(20)}},
        {"anyOf": [*PRIMES, {"type": "null"}], "title": "A", "default": None},
        {
            "properties": {"a": {"$ref": "#/$defs/b", "description": "the a"}, "c": PRIMES[0]},
            "$defs": {"b": PRIMES[1]},
        },
        {"properties": {"a": {"allOf": [{"$ref": "#/$defs/b"}], "title": "A"}}, "$defs": {"b": PRIMES[1]}},
        arrays(MAX_DEPTH - 1),
        patterns(MAX_PATTERN_PROPERTIES),
        {},
    ],
    ids=lambda schema: str(schema)[:50],
)
def test_a_schema_within_the_bounds(schema: dict) -> None:
    require_bounded(schema)


@pytest.fixture
def trials() -> Iterator[SchemaTrials]:
    trials = SchemaTrials()
    yield trials
    trials.close()


def line(schema: dict) -> str:
    wanted = {"type": "json_schema", "json_schema": {"name": "one", "schema": schema}}
    return schema_of(ResponseFormat.model_validate(wanted))


def try_out(trials: SchemaTrials, *schemas: dict, seconds: float = 20.0) -> None:
    async def each() -> None:
        for schema in schemas:
            await trials.try_out(line(schema), due_in(seconds))

    asyncio.run(each())


def test_a_schema_is_tried_once(trials: SchemaTrials) -> None:
    schema = {"type": "object", "properties": {"a": INTEGER}}
    with pytest.raises(Untried):
        trials.size(line(schema))
    try_out(trials, schema)
    assert 0 < trials.size(line(schema)) < 20 << 20


def test_a_schema_that_is_none(trials: SchemaTrials) -> None:
    for _ in range(2):
        with pytest.raises(InvalidInput, match=r"no schema to write by: .*not"):
            try_out(trials, {"not": INTEGER})


def test_a_schema_that_takes_too_much_ends_its_process_alone(trials: SchemaTrials) -> None:
    try_out(trials, INTEGER)
    first = process_of(trials)
    begun = time.monotonic()
    with pytest.raises(InvalidInput, match="takes too much"):
        try_out(trials, PRODUCT)
    assert time.monotonic() - begun < 3
    with pytest.raises(Untried):
        trials.size(line(PRODUCT))
    assert first.poll() is not None
    try_out(trials, {"type": "string"})
    assert process_of(trials).pid != first.pid


def test_a_process_that_has_ended_is_replaced(trials: SchemaTrials) -> None:
    try_out(trials, INTEGER)
    first = process_of(trials)
    first.kill()
    first.wait()
    try_out(trials, {"type": "string"})
    assert process_of(trials).pid != first.pid


def test_who_waits_for_a_schema_waits_no_longer_than_the_deadline(trials: SchemaTrials) -> None:
    require(hasattr(signal, "SIGSTOP"), "a signal that stops a process")
    try_out(trials, INTEGER)
    process = process_of(trials)
    os.kill(process.pid, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        try_out(trials, {"type": "string"}, seconds=0.3)
    assert time.monotonic() - begun < 2
    process.wait(5)  # it is ended then


def test_the_process_is_small_and_ends_with_its_reader(trials: SchemaTrials) -> None:
    try_out(trials, INTEGER)
    process = process_of(trials)
    assert psutil.Process(process.pid).memory_info().rss < 60_000_000
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 0


def test_each_token_of_a_hard_pattern_takes_little() -> None:
    task = LanguageModelling(tokenizer=byte_pair_tokenizer([], 256).to_str(), opening="a")
    schema = {"type": "string", "pattern": "^(.*a.{40}b.*|.*b.{50}a.*|.*c.{60}d.*)$"}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    text = JsonGrammar(task, ResponseFormat.model_validate(wanted)).begin()
    letters = ['"', *np.random.default_rng(0).choice(list("abcd"), 20_000)]
    written: list[str] = []

    def write() -> None:
        for letter in letters:
            text.allowed()
            text.accept(task.codec.token_to_id(letter))
            written.append(letter)

    begun = time.process_time()
    with pytest.raises(InvalidInput, match="cannot go on"):  # past the states that it may have
        write()
    assert len(written) > 500
    assert (time.process_time() - begun) / len(written) < 0.01


def process_of(trials: SchemaTrials) -> "subprocess.Popen[str]":
    assert trials._process is not None
    return trials._process._process
