"""Conversations as examples of a language model: what is read, what is to be said, and surprise at that."""

import json
import math

import numpy as np
import pytest

from zoo.errors import InvalidInput
from zoo.tasks import Arrays
from zoo.tasks.chat import Chat
from zoo.tasks.conversations import UNSAID
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.memory import KeyValueCache
from zoo.tasks.text_tokenizer import character_tokenizer

TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}#\n{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)
TOKENIZER = character_tokenizer("sua:#\n abcdefghij")
PLACES = 64


def task(template: str = TEMPLATE, context: int = PLACES) -> LanguageModelling:
    return LanguageModelling(
        tokenizer=TOKENIZER.to_str(),
        opening="abc",
        context=context,
        memory=KeyValueCache(layers=1, heads=1, width=2),
        places=100,
        chat=Chat(template=template, ends=("#",)),
    )


def split(*conversations: list[tuple[str, str]]) -> Arrays:
    lines = [
        json.dumps({"messages": [{"role": r, "content": c} for r, c in turns]}) for turns in conversations
    ]
    return {"conversations": np.frombuffer("\n".join(lines).encode(), np.uint8)}


SHORT = [("user", "a"), ("assistant", "b")]
LONG = [("system", "c"), ("user", "d"), ("assistant", "ef"), ("user", "g"), ("assistant", "")]


def shown(modelling: LanguageModelling, target: np.ndarray) -> str:
    """Targets, with a dot where nothing is to be said."""
    return "".join(
        "." if token == UNSAID else modelling.text(target[i : i + 1]) for i, token in enumerate(target)
    )


def test_the_assistants_tokens_are_to_be_said() -> None:
    modelling = task()
    examples = modelling.examples(split(LONG, SHORT))
    assert [modelling.text(row) for row in examples["tokens"]] == [
        "u:a#\na:b".ljust(23, "b"),
        "s:c#\nu:d#\na:ef#\nu:g#\na:",
    ]
    assert [shown(modelling, row) for row in examples["target"]] == [
        "......b#".ljust(23, "."),
        "." * 11 + "ef#" + "." * 8 + "#",
    ]
    lengths = modelling.lengths(examples)
    assert lengths is not None
    assert lengths.tolist() == [8, 23]


def test_rows_are_cut_at_the_context() -> None:
    modelling = task(context=13)
    examples = modelling.examples(split(LONG, SHORT))
    assert [shown(modelling, row) for row in examples["target"]] == [
        "......b#".ljust(13, "."),
        "." * 11 + "ef",
    ]
    with pytest.raises(InvalidInput, match="no conversation of the split has an answer within 6 tokens"):
        task(context=6).examples(split(LONG, SHORT))


def test_surprise_is_that_of_the_answers() -> None:
    """Each token costs as much under equal probabilities, and so does an end, which is no character."""
    modelling = task()
    vocabulary, asked = modelling.vocabulary, []

    def run(inputs: Arrays) -> Arrays:
        asked.append(inputs["tokens"].shape)
        kept = {f"next_{name}": inputs[name] for name in ("keys_0", "values_0")}
        return {"logits": np.zeros((*inputs["places"].shape, vocabulary), np.float32), **kept}

    measured = modelling.evaluate(run, modelling.examples(split(SHORT, SHORT, LONG)))
    assert measured["perplexity"] == pytest.approx(vocabulary)
    assert measured["bits_per_character"] == pytest.approx(8 / 4 * math.log2(vocabulary))
    assert asked == [(3, 23)]


def test_surprise_at_one_token_alone() -> None:
    modelling = task()
    examples = modelling.examples(split(SHORT))
    unsure = modelling.tokens("b")[0]

    def run(inputs: Arrays) -> Arrays:
        logits = np.full((*inputs["places"].shape, modelling.vocabulary), -1e9, np.float32)
        following = np.where(examples["target"] == UNSAID, 0, examples["target"])[:, : logits.shape[1]]
        np.put_along_axis(logits, following[..., None], 0.0, axis=2)
        logits[following == unsure, modelling.tokens("c")[0]] = 0.0  # as likely
        return {"logits": logits, "next_keys_0": inputs["keys_0"], "next_values_0": inputs["values_0"]}

    measured = modelling.evaluate(run, examples)
    assert measured["loss"] == pytest.approx(math.log(2) / 2)  # of b and the end


def test_what_only_fills_up_is_no_part_of_the_baseline() -> None:
    modelling = task()
    examples = modelling.examples(split(*[SHORT] * 50, LONG))
    shares = modelling.baseline(examples)["token"]
    edges, b = shares["edges"], modelling.tokens("b")[0]
    place = int(np.searchsorted(edges, b, side="right"))
    tokens = np.array([*"u:a#\na:b" * 50, *"s:c#\nu:d#\na:ef#\nu:g#\na:"])
    below = edges[place - 1] if place else -np.inf
    above = edges[place] if place < len(edges) else np.inf
    numbers = np.array([modelling.tokens(str(token))[0] for token in tokens])
    expected = ((numbers >= below) & (numbers < above)).mean()
    assert shares["shares"][place] == pytest.approx(expected)


def test_a_model_without_a_template_holds_no_conversations() -> None:
    with pytest.raises(InvalidInput, match="holds conversations, which this model does not"):
        task().model_copy(update={"chat": None}).examples(split(SHORT))


@pytest.mark.parametrize(
    "template", ["{{ messages }}", TEMPLATE.replace("{{ m.content }}", "{{ m.content | upper }}")]
)
def test_templates_that_write_answers_elsewhere(template: str) -> None:
    with pytest.raises(InvalidInput, match="template"):
        task(template).examples(split(SHORT))
