"""Sequence to sequence: beam search over tables of probabilities, and texts by a model that copies."""

import itertools
import json

import numpy as np
import pytest
from pydantic import ValidationError

from zoo.errors import InvalidInput
from zoo.tasks import Arrays, Schema
from zoo.tasks.beam_search import BeamSearch, log_softmax
from zoo.tasks.sequence_to_sequence import (
    BEGIN,
    DECODER,
    ENCODER,
    END,
    PADDING,
    SequenceToSequence,
    TransformTextRequest,
)

# Beam search. A chain: the probability of each token hangs on the one before, token 0 ends, token 3 begins.
CHAIN = np.array(
    [
        [1.0, 0.0, 0.0, 0.0],
        [0.1, 0.2, 0.7, 0.0],
        [0.6, 0.3, 0.1, 0.0],
        [0.05, 0.5, 0.45, 0.0],
    ]
)


def search(beams: int, chains: list[np.ndarray], longest: int, ngram: int = 0) -> BeamSearch:
    """Runs a search of one text a chain to its end."""
    found = BeamSearch(len(chains), beams, end=0, longest=longest, no_repeat_ngram_size=ngram)
    owner, last = np.arange(len(chains)), np.full(len(chains), 3)
    with np.errstate(divide="ignore"):
        tables = np.log(np.array(chains))
    while not found.done:
        rows, tokens = found.step(tables[owner, last])
        owner, last = owner[rows], tokens
        assert len(rows) <= beams * len(chains)
    return found


def repeats_itself(text: tuple[int, ...], ngram: int) -> bool:
    ngrams = [text[start : start + ngram] for start in range(len(text) - ngram + 1)]
    return ngram > 0 and len(set(ngrams)) < len(ngrams)


def scores_of_all(chain: np.ndarray, longest: int, ngram: int) -> dict[tuple[int, ...], float]:
    """The mean log-probabilities of all texts that there are and have no n-gram twice."""
    scored = {}
    for length in range(longest + 1):
        for text in itertools.product([1, 2], repeat=length):
            if repeats_itself(text, ngram):
                continue
            tokens = [*text, 0] if length < longest else [*text]
            steps = [chain[a, b] for a, b in zip([3, *tokens], tokens, strict=False)]
            scored[text] = float(np.mean(np.log(steps)))
    return scored


@pytest.mark.parametrize("ngram", [0, 1, 2, 3])
def test_many_beams_find_the_best_text(ngram: int) -> None:
    random = np.random.default_rng(0)
    for _ in range(30):
        chain = random.dirichlet([0.5] * 4, 4) + 1e-6
        chain[:, 3] = 1e-12
        chain /= chain.sum(axis=1, keepdims=True)
        scores = scores_of_all(chain, 5, ngram)
        (found,) = search(64, [chain], 5, ngram).best()
        assert found.score == pytest.approx(max(scores.values()))
        assert found.score == pytest.approx(scores[tuple(found.tokens.tolist())])


def test_one_beam_is_greedy() -> None:
    (found,) = search(1, [CHAIN], longest=9).best()
    assert found.tokens.tolist() == [1, 2]
    assert found.score == pytest.approx(np.log([0.5, 0.7, 0.6]).mean())


def test_texts_do_not_mind_each_other() -> None:
    random = np.random.default_rng(1)
    chains = [random.dirichlet([0.4] * 4, 4) + 1e-9 for _ in range(12)]
    together = search(3, chains, longest=7).best()
    for chain, found in zip(chains, together, strict=True):
        (alone,) = search(3, [chain], longest=7).best()
        assert alone.tokens.tolist() == found.tokens.tolist()
        assert alone.score == pytest.approx(found.score)


def test_a_text_without_end_is_cut_short() -> None:
    endless = np.array([[0.0, 1, 0, 0]] * 4)
    for beams in (1, 3):
        (found,) = search(beams, [endless], longest=6).best()
        assert found.tokens.tolist() == [1] * 6
        assert found.score == pytest.approx(0)


@pytest.mark.parametrize(("ngram", "text"), [(1, [1]), (2, [1, 1]), (3, [1, 1, 1])])
def test_what_would_be_written_again_is_not(ngram: int, text: list[int]) -> None:
    stammer = np.array([[0.001, 0.999, 0, 0]] * 4)
    for beams in (1, 3):
        (found,) = search(beams, [stammer], longest=9, ngram=ngram).best()
        assert found.tokens.tolist() == text
        assert found.score == pytest.approx(np.log([*[0.999] * ngram, 0.001]).mean()), "as the model has it"


def test_early_ends_do_not_crowd_out_a_sure_text() -> None:
    """Each step's second-best is to end, a thousand times less likely: five such ends are no answer."""
    sure = np.array([[1, 0, 0, 0], [1e-3, 0.998, 1e-3, 0], [0.999, 1e-3, 0, 0], [1e-3, 0.998, 1e-3, 0]])
    sure[1] = [1e-3, 1e-3, 0.998, 0]
    for beams in (1, 2, 5):
        (found,) = search(beams, [sure], longest=9).best()
        assert found.tokens.tolist() == [1, 2]


def test_log_softmax() -> None:
    logits = np.array([[1e4, 0, -np.inf], [1.0, 2.0, 3.0]], np.float32)
    np.testing.assert_allclose(np.exp(log_softmax(logits)).sum(axis=1), 1)
    assert log_softmax(logits)[0, 0] == 0


# The task

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
PAIRS = [(" ".join(WORDS[i : i + n]), " ".join(WORDS[i : i + n])) for n in (1, 2, 3, 4) for i in range(7)]


def split(pairs: list[tuple[str, str]]) -> Arrays:
    source, target = zip(*pairs, strict=True)
    return {
        "source": np.array([s.encode() for s in source]),
        "target": np.array([t.encode() for t in target]),
    }


SCHEMA = Schema(metric="exact", vocabulary=330)
TASK = SequenceToSequence.fit(split(PAIRS), SCHEMA).model_copy(update={"cache_shape": (1, 1, 2)})


class Copier:
    """Writes the source again. Its memory holds the source's tokens, and its cache how many were written."""

    def __init__(self, task: SequenceToSequence = TASK) -> None:
        self.task, self.rows = task, []

    def __call__(self, inputs: Arrays) -> Arrays:
        source = inputs["source"]
        if inputs.keys() == set(ENCODER.inputs):
            memory = np.repeat(source[:, None, None, :, None].astype(np.float32), 2, axis=4)
            return {"memory_keys": memory, "memory_values": -memory}
        assert inputs.keys() == set(DECODER.inputs)
        np.testing.assert_array_equal(inputs["memory_keys"][:, 0, 0, :, 0], source)
        np.testing.assert_array_equal(inputs["memory_values"], -inputs["memory_keys"])
        self.rows.append(len(source))
        written = inputs["past_keys"].shape[3]
        logits = np.zeros((len(source), 1, self.task.vocabulary), np.float32)
        logits[:, :, [PADDING, BEGIN]] = 99  # which must never be written
        following = source[:, written] if written < source.shape[1] else np.full(len(source), END)
        logits[np.arange(len(source)), 0, np.where(following == PADDING, END, following)] = 9
        new = np.broadcast_to(inputs["tokens"][:, None, None, :, None], (len(source), 1, 1, 1, 2))
        past = np.concatenate([inputs["past_keys"], new.astype(np.float32)], axis=3)
        return {"logits": logits, "keys": past, "values": -past}


def request(text: str | list[str], **fields: object) -> TransformTextRequest:
    return TransformTextRequest.model_validate({"model": "m", "text": text, **fields})


def test_fit() -> None:
    assert TASK.primary_metric == "exact"
    assert TASK.max_source == TASK.max_target == 65
    long = SequenceToSequence.fit(
        split([("é" * 50, "x"), ("a", "é" * 60)]), Schema(metric="bleu", vocabulary=259)
    )
    assert (long.max_source, long.max_target) == (201, 241)
    assert [TASK.codec.token_to_id(word) for word in ("<pad>", "<s>", "</s>")] == [PADDING, BEGIN, END]


def test_examples() -> None:
    made = TASK.examples(split([("one two", "two"), ("three", "four five six")]))
    assert made["source"].shape[0] == made["target"].shape[0] == 2
    assert made["source"][0, -1] == END
    assert made["source"][1, -1] == PADDING
    assert (made["target"][:, 0] == BEGIN).all()
    assert [TASK.text(row) for row in made["target"]] == ["two", "four five six"]
    np.testing.assert_array_equal(
        TASK.lengths(made), [(row != 0).sum() for row in np.hstack(list(made.values()))]
    )


@pytest.mark.parametrize("beams", [1, 2, 5])
def test_texts_of_different_lengths_are_answered_as_alone(beams: int) -> None:
    texts = ["nine", "one two three four", "", "six seven", "ten nine eight"]
    answer = TASK.answer(Copier(), request(texts, beam_size=beams))
    assert answer["texts"] == texts
    for text, score in zip(texts, answer["scores"], strict=True):
        alone = TASK.answer(Copier(), request(text, beam_size=beams))
        assert alone["texts"] == [text]
        assert alone["scores"] == pytest.approx([score])


@pytest.mark.parametrize("beams", [1, 2, 5])
def test_answers_have_so_many_tokens_at_most(beams: int) -> None:
    texts = ["nine", "one two three four", "", "six seven"]
    tokens = [TASK.codec.encode(text).ids for text in texts]
    assert max(map(len, tokens)) < 9
    for most in (1, 2, 3, 9, 10**30):
        run = Copier()
        answer = TASK.answer(run, request(texts, beam_size=beams, max_tokens=most))
        assert answer["texts"] == [TASK.codec.decode(ids[:most]) for ids in tokens]
        assert len(run.rows) <= most, "a run for each token"
    assert answer["scores"] == TASK.answer(Copier(), request(texts, beam_size=beams))["scores"]


def test_nothing_is_answered_by_nothing_without_a_run() -> None:
    run = Copier()
    assert TASK.answer(run, request(["", ""])) == {"texts": ["", ""], "scores": [0.0, 0.0]}
    assert run.rows == []


def test_scores_may_be_left_out() -> None:
    assert TASK.answer(Copier(), request("one", scores=False))["scores"] is None


def test_texts_that_have_ended_take_no_more_time() -> None:
    run = Copier()
    TASK.answer(run, request(["one", "one two three four"], beam_size=1))
    assert run.rows[0] == 2
    assert run.rows[-1] == 1


def test_a_text_that_is_too_long() -> None:
    with pytest.raises(
        InvalidInput, match=rf"text\[1\] has \d+ tokens; at most {TASK.max_source - 1} are read"
    ):
        TASK.encode(request(["one", "one " * 99]))
    with pytest.raises(InvalidInput, match=r"^text has"):
        TASK.encode(request("one " * 99))


def test_characters_that_the_training_texts_have_not() -> None:
    assert TASK.answer(Copier(), request("é 日"))["texts"] == ["é 日"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"text": []}, "at least 1 item"),
        ({"text": ["a"] * 257}, "at most 256 items"),
        ({"text": "a" * 16_385}, "at most 16384 characters"),
        ({"text": 5}, "valid string"),
        ({"text": "a", "beam_size": 0}, "greater than or equal to 1"),
        ({"text": "a", "beam_size": 17}, "less than or equal to 16"),
        ({"text": "a", "max_tokens": 0}, "greater than or equal to 1"),
        ({"text": "a", "beams": 1}, "Extra inputs"),
    ],
)
def test_refused(fields: dict, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        request(**fields)


def test_a_task_that_repeats_nothing() -> None:
    careful = TASK.model_copy(update={"no_repeat_ngram_size": 2})
    said = request("one two one two three")
    for task, text in ((TASK, "one two one two three"), (careful, "one two one")):
        (answer,) = task.answer(Copier(), said)["texts"]
        assert answer.startswith(text)
        assert (answer == said.text) == (task is TASK)


def test_evaluate() -> None:
    right = TASK.examples(split(PAIRS))
    assert TASK.evaluate(Copier(), right) == {"exact": 1.0}
    half = TASK.examples(split([(s, t if i % 2 else "ten") for i, (s, t) in enumerate(PAIRS)]))
    assert TASK.evaluate(Copier(), half) == {"exact": 0.5}


def test_answers_come_in_order_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.tasks.sequence_to_sequence.ROWS_AT_ONCE", 10)
    run = Copier()
    made = TASK.examples(split(PAIRS))
    assert TASK.answers(run, made["source"], beams=5) == [source for source, _ in PAIRS]
    assert max(run.rows) <= 10


def test_transcripts_are_greedy_texts() -> None:
    made = TASK.examples(split(PAIRS))
    written = TASK.transcripts(Copier(), made)
    assert len(written) == 100
    assert {TASK.text(row) for row in written} == {source for source, _ in PAIRS}


def test_a_request_gives_its_example_again() -> None:
    for count in (1, 3):
        examples = TASK.example_inputs(count)
        body = TASK.request_for(examples, "m")
        again = TASK.encode(TransformTextRequest.model_validate_json(json.dumps(body)))
        np.testing.assert_array_equal(again["source"], examples["source"])
        assert isinstance(body["text"], str) == (count == 1)


def test_examples_for_each_graph() -> None:
    for signature in TASK.signatures():
        inputs = TASK.examples_for(signature, 4)
        assert inputs.keys() >= set(signature.inputs)
        assert all(len(array) == 4 for array in inputs.values())
    places = {axis.length for axis in TASK.varying_axes().values()}
    assert places == {"source_length", "token_length", "past_length"}


def test_what_is_observed_does_not_count_padding() -> None:
    examples = TASK.examples(split(PAIRS))
    source = examples["source"]
    assert (source == PADDING).any()
    token, length = np.split(TASK.observed(source), 2, axis=1)
    assert np.nanmin(token) > PADDING
    assert (np.isfinite(token).sum(axis=(1, 2)) == length[:, 0, 0]).all()
    assert TASK.baseline(examples).keys() == set(TASK.observed_names())
    assert TASK.baseline(examples)["token"]["edges"][0] > PADDING
