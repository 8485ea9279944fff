"""Language modelling: tokenizers, sampling, stop strings, and texts written by a model that is a table."""

import itertools
import json
import math

import numpy as np
import pytest
from pydantic import ValidationError
from tokenizers import Encoding, Tokenizer

from zoo.errors import InvalidInput, TextTooLong
from zoo.tasks import Arrays, Schema
from zoo.tasks.language_modelling import (
    MAX_NEW_TOKENS,
    MAX_PROMPT_TOKENS,
    PROMPT_PART,
    READ_AT_ONCE,
    GenerateTextRequest,
    LanguageModelling,
)
from zoo.tasks.sampling import Sampling
from zoo.tasks.stopping import StopSearch
from zoo.tasks.text_tokenizer import UNKNOWN, byte_pair_tokenizer, character_tokenizer, token_bytes

CYCLE = "abcdefghij\n"
TEXT = CYCLE * 60
VARIED = [
    "",
    "plain",
    "two  spaces\n\n\tand tabs",
    "naïve café — 42 €",
    "日本語",
    "👩‍👩‍👧 e\u0301",
    "\x00\x7f",
]


def split(text: str) -> Arrays:
    return {"text": np.frombuffer(text.encode(), np.uint8)}


TASK = LanguageModelling.fit(split(TEXT), Schema()).model_copy(update={"context": 4})


class Table:
    """Expects each letter of the cycle to be followed by the next; its state counts the tokens."""

    def __init__(self, task: LanguageModelling, sureness: float = 5.0) -> None:
        self.runs = 0
        ids = [task.codec.token_to_id(letter) for letter in CYCLE]
        self.logits = np.zeros((task.vocabulary, task.vocabulary), np.float32)
        self.logits[ids, np.roll(ids, -1)] = sureness
        self.logits[:, 0] = 9.0  # UNKNOWN, which must never be written

    def __call__(self, inputs: Arrays) -> Arrays:
        self.runs += 1
        tokens = inputs["tokens"]
        return {
            "logits": self.logits[tokens],
            "next_state": inputs["state"] + np.float32(tokens.shape[1]),
        }


def request(prompt: str = "abc", **fields: object) -> GenerateTextRequest:
    return GenerateTextRequest.model_validate({"model": "m", "prompt": prompt, **fields})


def greedy(prompt: str = "abc", **fields: object) -> dict:
    return TASK.answer(Table(TASK), request(prompt, temperature=0.0, **fields))


# Tokenizers


def test_a_character_is_a_token() -> None:
    tokenizer = character_tokenizer("to be\nor not")
    assert sorted(tokenizer.get_vocab()) == sorted({*"to be\nor not", UNKNOWN})
    assert len(tokenizer.encode("not\nto").ids) == 6
    assert tokenizer.decode(tokenizer.encode("not\nto").ids) == "not\nto"
    assert tokenizer.encode("x").ids == [tokenizer.token_to_id(UNKNOWN)]


@pytest.mark.parametrize("text", VARIED)
def test_byte_pairs_write_every_text(text: str) -> None:
    tokenizer = byte_pair_tokenizer([TEXT, "plain English"], 280)
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_what_tokens_write() -> None:
    pairs = byte_pair_tokenizer([TEXT, "plain English"], 280, ("<a b>",))
    characters = character_tokenizer("".join(VARIED))
    for tokenizer in (pairs, characters):
        words = token_bytes(tokenizer)
        assert len(words) == tokenizer.get_vocab_size()
        for text in VARIED:
            assert b"".join(words[number] for number in tokenizer.encode(text).ids) == text.encode()
    assert set(token_bytes(pairs)) >= {bytes([byte]) for byte in range(256)} | {b"<a b>"}


def test_byte_pairs_are_joined_by_frequency() -> None:
    tokenizer = byte_pair_tokenizer(["low lower lowest " * 20], 300, ("<pad>", "</s>"))
    assert tokenizer.get_vocab_size() <= 300
    assert [tokenizer.token_to_id(word) for word in ("<pad>", "</s>")] == [0, 1]
    assert len(tokenizer.encode("low").ids) == 1
    assert len(tokenizer.encode("wol").ids) == 3


def test_tokenizers_are_the_same_each_time() -> None:
    assert character_tokenizer(TEXT).to_str() == character_tokenizer(TEXT).to_str()
    text = "she sells sea shells by the sea shore " * 9
    assert len({byte_pair_tokenizer([text], 290).to_str() for _ in range(5)}) == 1


# Sampling

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3]))


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(temperature=0), [0, 1, 0, 0]),
        (Sampling(temperature=0.5), np.array([0.01, 0.16, 0.04, 0.09]) / 0.3),
        (Sampling(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_k=1), [0, 1, 0, 0]),
        (Sampling(top_k=99), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(top_p=0.39), [0, 1, 0, 0]),
        (Sampling(top_p=0.41), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_p=0.89), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampling(top_p=0.89, top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_p=0.41, top_k=3), [0, 4 / 7, 0, 3 / 7]),
    ],
)
def test_probabilities(sampling: Sampling, expected: list[float]) -> None:
    np.testing.assert_allclose(sampling.probabilities(LOGITS), expected)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    random = np.random.default_rng(0)
    drawn = np.bincount([Sampling().choose(LOGITS, random) for _ in range(20_000)], minlength=4) / 20_000
    np.testing.assert_allclose(drawn, [0.1, 0.4, 0.2, 0.3], atol=0.01)


def test_what_is_impossible_is_never_drawn() -> None:
    random = np.random.default_rng(0)
    logits = np.array([-np.inf, 0, -np.inf, 0, -np.inf])
    assert {Sampling(2.0).choose(logits, random) for _ in range(200)} == {1, 3}


def test_huge_logits() -> None:
    logits = np.array([1e30, -1e30, 0], np.float32)
    np.testing.assert_array_equal(Sampling(0.01).probabilities(logits), [1, 0, 0])


# Stop strings


@pytest.mark.parametrize(
    ("stops", "text", "before"),
    [
        ([], "abc", "abc"),
        (["x"], "abc", "abc"),
        (["b"], "abc", "a"),
        (["ab"], "aab", "a"),
        (["aab"], "aaab", "a"),
        (["ab", "c"], "xcab", "x"),
        (["abcd", "c"], "abce", "ab"),
        (["\n\n"], "a\nb\n\nc", "a\nb"),
        (["abc"], "abab", "abab"),
    ],
)
def test_stop_search(stops: list[str], text: str, before: str) -> None:
    for cuts in itertools.product([0, 1], repeat=len(text) - 1):
        pieces, search = [text[0]], StopSearch(stops)
        for cut, letter in zip(cuts, text[1:], strict=True):
            if cut:
                pieces.append(letter)
            else:
                pieces[-1] += letter
        shown = ""
        for piece in pieces:
            shown += search.add(piece)
            assert before.startswith(shown), "nothing is shown that may begin a stop string"
            if search.found:
                break
        assert shown + ("" if search.found else search.rest()) == before


# The task


def test_fit() -> None:
    assert TASK.vocabulary == len(CYCLE) + 1
    assert TASK.opening == TEXT[:64]
    pairs = LanguageModelling.fit(split(TEXT), Schema(vocabulary=260))
    assert pairs.vocabulary == 260
    assert pairs.text(pairs.tokens(TEXT)) == TEXT


def test_examples_are_the_text_and_the_text_one_token_on() -> None:
    made = TASK.examples(split(TEXT[:14]))
    assert [TASK.text(row) for row in made["tokens"]] == ["abcd", "efgh", "ij\na"]
    assert [TASK.text(row) for row in made["target"]] == ["bcde", "fghi", "j\nab"]
    assert len(TASK.examples(split(TEXT[:13]))["tokens"]) == 3
    assert len(TASK.examples(split(TEXT[:12]))["tokens"]) == 2


def test_a_text_that_is_too_short() -> None:
    with pytest.raises(InvalidInput, match="4 tokens, too few for a context of 4"):
        TASK.examples(split("abcd"))


def test_evaluate_knows_the_surprise() -> None:
    made = TASK.examples(split(TEXT))
    run = Table(TASK)
    metrics = TASK.evaluate(run, made)
    odds = math.log(math.exp(5) + math.exp(9) + len(CYCLE) - 1) - 5
    assert metrics["loss"] == pytest.approx(odds, abs=1e-6)
    assert metrics["perplexity"] == pytest.approx(math.exp(odds), rel=1e-6)
    assert metrics["bits_per_character"] == pytest.approx(odds / math.log(2), abs=1e-6)
    assert run.runs == 1


def test_evaluate_counts_characters_and_not_tokens() -> None:
    task = LanguageModelling.fit(split(TEXT), Schema(vocabulary=270)).model_copy(update={"context": 4})
    made = task.examples(split(TEXT))

    def uniform(inputs: Arrays) -> Arrays:
        shape = (*inputs["tokens"].shape, task.vocabulary)
        return {"logits": np.zeros(shape, np.float32), "next_state": inputs["state"]}

    metrics = task.evaluate(uniform, made)
    assert metrics["loss"] == pytest.approx(math.log(task.vocabulary))
    tokens, characters = made["target"].size, sum(len(task.text(row)) for row in made["target"])
    assert characters > 3 * tokens
    bits = math.log2(task.vocabulary) * tokens / characters
    assert metrics["bits_per_character"] == pytest.approx(bits, rel=0.01)


def test_the_state_is_carried_through_an_evaluation() -> None:
    task = TASK.model_copy(update={"context": READ_AT_ONCE})
    made = task.examples(split(CYCLE * 800))
    seen = []

    def run(inputs: Arrays) -> Arrays:
        seen.append((inputs["tokens"].shape[1], float(inputs["state"].max()), float(inputs["state"].min())))
        return Table(task)(inputs)

    task.evaluate(run, made)
    assert seen == [(READ_AT_ONCE, READ_AT_ONCE * i, READ_AT_ONCE * i) for i in range(len(seen))]
    assert len(seen) == 2


def test_baseline() -> None:
    baseline = TASK.baseline(TASK.examples(split(TEXT)))["token"]
    assert baseline["edges"][0] > TASK.codec.token_to_id(UNKNOWN)
    tokens = TASK.encode(GenerateTextRequest(model="m", prompt=CYCLE[:3]))["tokens"]
    assert TASK.observed(tokens)[0, 0, :3].tolist() == tokens[0].tolist()
    assert np.isnan(TASK.observed(tokens)[0, 0, 3:]).all()
    long = np.arange(1000)[None]
    assert TASK.observed(long)[0, 0, [0, -1]].tolist() == [0, 999]


# Writing


def test_greedy() -> None:
    assert greedy(max_tokens=12) == {
        "text": "defghij\nabcd",
        "finish_reason": "length",
        "usage": {"prompt_tokens": 3, "completion_tokens": 12, "total_tokens": 15},
    }


def test_one_run_a_token_and_none_too_many() -> None:
    run = Table(TASK)
    TASK.answer(run, request(max_tokens=7))
    assert run.runs == 7


def test_an_empty_prompt_begins_after_a_line_break() -> None:
    answer = greedy("", max_tokens=3)
    assert answer["text"] == "abc"
    assert answer["usage"]["prompt_tokens"] == 1


def test_characters_that_the_training_text_has_not() -> None:
    answer = greedy("a€x", max_tokens=4)
    assert len(answer["text"]) == 4
    assert UNKNOWN not in answer["text"]


def test_a_long_prompt_is_read_in_parts() -> None:
    run = Table(TASK)
    prompt = (TEXT * 9)[: 2 * READ_AT_ONCE + 5]
    pieces = list(TASK.generate(run, request(prompt, max_tokens=2, temperature=0)))
    assert pieces == ["", "", *(CYCLE * 9)[len(prompt) % 11 :][:2]]
    assert run.runs == 4


def test_the_same_seed_writes_the_same_text() -> None:
    def write(seed: int | None) -> str:
        return TASK.answer(Table(TASK, 1.0), request(max_tokens=40, seed=seed, temperature=1.5))["text"]

    assert write(5) == write(5)
    assert write(5) != write(6)
    assert write(None) != write(None)


@pytest.mark.parametrize(
    ("stop", "text", "reason", "written"),
    [
        ("g", "def", "stop", 4),
        (["j\n", "i"], "defgh", "stop", 6),
        ("j\na", "defghi", "stop", 9),
        ("xyz", "defghij\nabcd", "length", 12),
        ("dz", "defghij\nabcd", "length", 12),
        ([], "defghij\nabcd", "length", 12),
    ],
)
def test_stop(stop: str | list[str], text: str, reason: str, written: int) -> None:
    answer = greedy(max_tokens=12, stop=stop)
    assert (answer["text"], answer["finish_reason"]) == (text, reason)
    assert answer["usage"]["completion_tokens"] == written


@pytest.mark.parametrize("stop", [None, "g", "j\na", ["abcdX", "ij"], "\nabce"])
@pytest.mark.parametrize("seed", range(5))
def test_pieces_are_the_answer(stop: object, seed: int) -> None:
    asked = request(max_tokens=30, stop=stop, seed=seed)
    generation = TASK.generate(Table(TASK), asked)
    text = "".join(generation)
    assert text == TASK.decode(asked, generation.outputs)["text"]
    assert next(generation, None) is None


def test_letters_of_several_bytes_are_shown_whole() -> None:
    text = "€ naïve 日本 " * 30
    task = LanguageModelling.fit(split(text), Schema(vocabulary=256))
    tokens = task.tokens(text)

    def run(inputs: Arrays) -> Arrays:
        place = int(inputs["state"].max()) + inputs["tokens"].shape[1]
        logits = np.zeros((1, inputs["tokens"].shape[1], task.vocabulary), np.float32)
        logits[0, -1, tokens[place]] = 50
        return {"logits": logits, "next_state": np.full_like(inputs["state"], place)}

    for count in range(1, 20):
        asked = request(task.text(tokens[:3]), max_tokens=count, temperature=0)
        generation = task.generate(run, asked)
        pieces = list(generation)
        assert "".join(pieces) == task.decode(asked, generation.outputs)["text"]
        assert all(UNKNOWN not in piece for piece in pieces[:-1])
        assert "".join(pieces).rstrip(UNKNOWN) in text


def test_transcripts_are_greedy_texts() -> None:
    made = TASK.examples(split(TEXT))
    transcripts = TASK.transcripts(Table(TASK, 10.0), made)
    assert transcripts.shape == (100, 32)
    for row in transcripts:
        assert TASK.text(row) in TEXT


# Requests


def test_a_request_gives_its_example_again() -> None:
    examples = TASK.example_inputs(1)
    body = TASK.request_for(examples, "m")
    again = TASK.encode(GenerateTextRequest.model_validate_json(json.dumps(body)))
    assert body["prompt"] == TEXT[:64]
    for name in TASK.inputs:
        np.testing.assert_array_equal(again[name], examples[name])
    with pytest.raises(InvalidInput, match="one prompt"):
        TASK.request_for(TASK.example_inputs(2), "m")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": None}, "either prompt or messages"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "either prompt or messages"),
        ({"prompt": None, "messages": []}, "at least 1 item"),
        ({"max_tokens": 0}, "greater than or equal to 1"),
        ({"max_tokens": MAX_NEW_TOKENS + 1}, f"less than or equal to {MAX_NEW_TOKENS}"),
        ({"temperature": -0.1}, "greater than or equal to 0"),
        ({"temperature": 2.1}, "less than or equal to 2"),
        ({"temperature": math.nan}, "finite"),
        ({"top_p": 0.0}, "greater than 0"),
        ({"top_p": 1.1}, "less than or equal to 1"),
        ({"top_k": -1}, "greater than or equal to 0"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"stop": ""}, "at least 1 character"),
        ({"stop": ["x"] * 17}, "at most 16 items"),
        ({"prompt": "x" * 65_537}, "at most 65536 characters"),
        ({"echo": True}, "Extra inputs"),
    ],
)
def test_refused(fields: dict, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        request(**fields)


@pytest.mark.parametrize("letters", ["a b ", "🙂", "<|end|>", "日本"])
def test_a_prompt_is_refused_by_its_beginning(letters: str) -> None:
    tokenizer = byte_pair_tokenizer([TEXT], 280, ("<|end|>",))
    task = LanguageModelling(tokenizer=tokenizer.to_str(), opening="a", places=1000)
    read, prompt = [], letters * 20_000
    task.__dict__["codec"] = Noting(tokenizer, read)
    with pytest.raises(TextTooLong, match="over 1000 tokens; at most 1000"):
        task.prompt_tokens(prompt)
    assert read == [PROMPT_PART]


@pytest.mark.parametrize("prompt", ["ab " * 9000, "<|end|>" * 9000, " " * 40_000, "🙂" * 17_000])
def test_a_long_prompt_that_fits_is_read(prompt: str) -> None:
    tokenizer = byte_pair_tokenizer([TEXT], 280, ("<|end|>",))
    tokens = len(tokenizer.encode(prompt).ids)
    task = LanguageModelling(tokenizer=tokenizer.to_str(), opening="a", places=tokens)
    assert len(task.prompt_tokens(prompt)) == tokens


class Noting:
    """A tokenizer that notes how long texts are."""

    def __init__(self, tokenizer: Tokenizer, read: list[int]) -> None:
        self._tokenizer, self._read = tokenizer, read

    def encode(self, text: str, *, add_special_tokens: bool) -> Encoding:
        self._read.append(len(text))
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)


def test_refused_by_the_model() -> None:
    with pytest.raises(InvalidInput, match=f"9000 tokens; at most {MAX_PROMPT_TOKENS}"):
        TASK.generate(Table(TASK), request("a" * 9000))
    conversation = GenerateTextRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    )
    with pytest.raises(InvalidInput, match="give a prompt"):
        TASK.generate(Table(TASK), conversation)
