"""OpenAI's sampling, as the client asks for it: stops, penalties, bias, how likely tokens were, JSON."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from openai import OpenAI
from server import Server, running
from tiny_zoo import LETTERS as CYCLE
from tiny_zoo import REPLY, write_talker, write_writer

from serving.protocols.openai.logprobs import ENTRIES_PER_MILLISECOND
from serving.protocols.openai.preparation import seed_of
from serving.turns import ALONE_SIZE

LETTERS, TALK = "rnn-letters", "rnn-reply"
GREEDY: dict[str, Any] = {"model": LETTERS, "prompt": "abc", "temperature": 0, "max_tokens": 8}
ASKED = [{"role": "user", "content": "hello"}]
SURE = math.log(
    math.exp(4) / (math.exp(4) + len(CYCLE))
)  # of the letter that follows, of all and the unknown


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("writers")
    for write in (write_writer, write_talker):
        write(folder / "bundles" / write.__name__)
    with running(folder / "log", ZOO_BUNDLES=str(folder / "bundles")) as server:
        yield server


@pytest.fixture
def client(writers: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{writers.url}/v1", api_key="-", max_retries=0) as client:
        yield client


def write(client: OpenAI, **fields: Any) -> str:
    return client.completions.create(**{**GREEDY, **fields}).choices[0].text


def talk(client: OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": TALK, "messages": ASKED, "temperature": 0, **fields})


@pytest.mark.parametrize(
    ("stop", "text", "reason"),
    [
        ("g", "def", "stop"),
        (["i", "gh"], "def", "stop"),
        ("j\nb", "defghij\n", "length"),
        ([], "defghij\n", "length"),
    ],
)
def test_stops(client: OpenAI, stop: Any, text: str, reason: str) -> None:
    (choice,) = client.completions.create(**GREEDY, stop=stop).choices
    assert (choice.text, choice.finish_reason) == (text, reason)


def test_tokens_of_a_stop_string_are_counted_and_not_shown(client: OpenAI) -> None:
    answer = client.completions.create(**GREEDY, stop="fg", logprobs=0)
    assert answer.usage.completion_tokens == 4
    assert answer.choices[0].logprobs.tokens == ["d", "e"]
    chunks = list(client.completions.create(**GREEDY, stop="fg", logprobs=0, stream=True))
    noted = [chunk.choices[0].logprobs for chunk in chunks]
    assert [token for one in noted if one for token in one.tokens] == ["d", "e"]


def test_prompts_of_every_kind(client: OpenAI) -> None:
    answer = client.completions.create(**{**GREEDY, "prompt": "abc"}, logprobs=0, echo=None)
    assert answer.choices[0].text == "defghij\n"
    ids = dict(zip(CYCLE, token_ids(client), strict=True))
    assert write(client, prompt=[ids[letter] for letter in "abc"]) == "defghij\n"
    several = client.completions.create(**{**GREEDY, "prompt": [[ids["a"]], [ids["b"], ids["c"]]]})
    assert [choice.text for choice in several.choices] == ["bcdefghi", "defghij\n"]
    several = client.completions.create(**{**GREEDY, "prompt": ["a", "", "bc"]})
    assert [choice.text for choice in several.choices] == ["bcdefghi", "abcdefgh", "defghij\n"]


def token_ids(client: OpenAI) -> list[int]:
    """The numbers of the cycle's letters: with a bias towards it, each is written."""
    found: dict[str, int] = {}
    for number in range(1, len(CYCLE) + 1):  # 0 is the unknown
        found.setdefault(write(client, logit_bias={str(number): 100}, max_tokens=1), number)
    return [found[letter] for letter in CYCLE]


def test_bias(client: OpenAI) -> None:
    ids = token_ids(client)
    assert write(client, logit_bias={str(ids[3]): -100}, max_tokens=1) != "d"
    assert write(client, logit_bias={str(ids[9]): 100}) == "j" * 8


def test_echo(client: OpenAI) -> None:
    assert write(client, echo=True) == "abcdefghij\n"
    chunks = client.completions.create(**{**GREEDY, "prompt": ["abc", "j"]}, echo=True, stream=True)
    texts = ["", ""]
    for chunk in chunks:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == ["abcdefghij\n", "j\nabcdefg"]


def test_penalties(client: OpenAI) -> None:
    """What follows is expected by 4, `j` by 5 wherever it does not."""
    bias = {str(token_ids(client)[9]): 5}
    assert write(client, logit_bias=bias, max_tokens=16) == "j" * 16
    once = write(client, logit_bias=bias, max_tokens=16, presence_penalty=2)
    assert once == "j\nabcdefghijjjjj"
    each_time = write(client, logit_bias=bias, max_tokens=16, frequency_penalty=2)
    assert each_time == "j\nabcdefghij\nabc"
    assert write(client, logit_bias=bias, max_tokens=16, presence_penalty=-2) == "j" * 16


def test_how_likely_tokens_of_a_completion_were(client: OpenAI) -> None:
    answer = client.completions.create(**GREEDY, logprobs=2)
    noted = answer.choices[0].logprobs
    assert noted.tokens == list("defghij\n")
    assert noted.text_offset == list(range(8))
    np.testing.assert_allclose(noted.token_logprobs, [SURE] * 8, rtol=1e-5)
    for token, top in zip(noted.tokens, noted.top_logprobs, strict=True):
        assert len(top) == 2
        assert top[token] == max(top.values())
    unlikely = client.completions.create(
        **{**GREEDY, "temperature": 2, "seed": 1, "max_tokens": 60}, logprobs=1
    )
    noted = unlikely.choices[0].logprobs
    assert {len(top) for top in noted.top_logprobs} == {1, 2}  # what was written is always there
    for token, logprob, top in zip(noted.tokens, noted.token_logprobs, noted.top_logprobs, strict=True):
        assert top[token] == logprob


@pytest.mark.parametrize("top", [None, 0, 3])
def test_how_likely_tokens_of_an_answer_were(client: OpenAI, top: int | None) -> None:
    (choice,) = talk(client, logprobs=True, top_logprobs=top).choices
    content = choice.logprobs.content
    assert bytes(byte for one in content for byte in one.bytes).decode() == choice.message.content == REPLY
    assert [one.token for one in content][3:7] == ["d", "\\xc3", "\\xa9", "f"]  # a letter of two tokens
    for one in content:
        assert len(one.top_logprobs) == (top or 0)
        assert -0.1 < one.logprob < 0
        if top:
            assert one.top_logprobs[0].logprob == one.logprob
            assert one.top_logprobs[0].bytes == one.bytes
            assert [t.logprob for t in one.top_logprobs] == sorted(
                (t.logprob for t in one.top_logprobs), reverse=True
            )


def test_how_likely_streamed_tokens_were(client: OpenAI) -> None:
    whole = talk(client, logprobs=True, top_logprobs=2, temperature=1.5, seed=5, max_tokens=40).choices[0]
    told, text = [], ""
    for chunk in talk(
        client, logprobs=True, top_logprobs=2, temperature=1.5, seed=5, max_tokens=40, stream=True
    ):
        text += chunk.choices[0].delta.content or ""
        if chunk.choices[0].logprobs:
            told += chunk.choices[0].logprobs.content
    assert text == whole.message.content
    assert [one.model_dump() for one in told] == [one.model_dump() for one in whole.logprobs.content]


def test_nothing_is_said_that_was_not_asked(client: OpenAI) -> None:
    assert talk(client).choices[0].logprobs is None
    assert all(chunk.choices[0].logprobs is None for chunk in talk(client, stream=True))


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_tokens_of_an_answer(client: OpenAI, name: str) -> None:
    answer = talk(client, **{name: 4})
    assert answer.choices[0].message.content == REPLY[:4]
    assert answer.choices[0].finish_reason == "length"
    cut = talk(client, **{name: 5}).choices[0]  # in the midst of a letter
    assert cut.message.content == REPLY[:4] + "\N{REPLACEMENT CHARACTER}"


def test_an_answer_that_fills_the_context(client: OpenAI) -> None:
    long = [{"role": "user", "content": "x" * 294}]
    answer = talk(client, messages=long)
    assert answer.usage.total_tokens == 300
    assert answer.choices[0].finish_reason == "length"


SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Ada", "\N{GREEK SMALL LETTER PI}"]}, "old": {"type": "boolean"}},
    "required": ["name", "old"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("temperature", [0, 2])
def test_json(client: OpenAI, temperature: float) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
    for choice in talk(client, response_format=schema, n=3, seed=1, temperature=temperature).choices:
        assert choice.finish_reason == "stop"
        person = json.loads(choice.message.content)
        assert person["name"] in ("Ada", "\N{GREEK SMALL LETTER PI}")
        assert isinstance(person["old"], bool)
    text = ""
    for chunk in talk(client, response_format=schema, temperature=temperature, stream=True):
        text += chunk.choices[0].delta.content or ""
    assert json.loads(text).keys() == {"name", "old"}
    bias = {str(number): 3 for number in (token("}"), token('"'))}
    answer = talk(client, response_format={"type": "json_object"}, logit_bias=bias, temperature=1, seed=2)
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


def token(letter: str) -> int:
    """Its number in the tokenizer of bytes, which numbers the visible ones after five words of its own."""
    return ord(letter) - ord("!") + 4


def test_a_schema_that_is_none(client: OpenAI) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        talk(client, response_format=schema)
    assert refused.value.param == "response_format.json_schema.schema"
    assert "nonsense" in refused.value.message


def test_seeds_of_texts() -> None:
    seeds = [seed_of(5, number) for number in range(100)]
    assert seeds[0] == 5
    assert len({*seeds, *(seed_of(6, number) for number in range(100)), seed_of(-5, 0)}) == 201
    assert all(isinstance(seed, int) and seed >= 0 for seed in seeds)
    assert seeds == [seed_of(5, number) for number in range(100)]
    assert seed_of(None, 3) is None


def test_many_logprobs_at_the_deadline(client: OpenAI) -> None:
    """They are rendered in a thread, after the deadline, and what was written by then is told."""
    asked = {**GREEDY, "temperature": 2, "n": 16, "max_tokens": 4096, "logprobs": 5}
    answer = client.completions.create(**asked, extra_headers={"X-Request-Timeout": "1"})
    lengths = [len(choice.logprobs.tokens) for choice in answer.choices]
    assert sum(lengths) * 6 > ENTRIES_PER_MILLISECOND * ALONE_SIZE
    assert sum(lengths) <= answer.usage.completion_tokens < 16 * 4096
