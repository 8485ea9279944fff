"""Answers to questions about a text: what the model is told, and what fits into its context."""

import numpy as np
import pytest

from zoo.errors import InvalidInput
from zoo.tasks import OPERATIONS, Arrays, Schema
from zoo.tasks.chat import Chat
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.question_answering import ANSWER, BEST, EXAMPLE, SYSTEM, AnswerRequest

LETTERS = "".join(map(chr, range(32, 127))) + "\n"
CHAT = Chat(template="{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<answer>", ends=("~",))
TASK = LanguageModelling.fit({"text": np.frombuffer(LETTERS.encode() * 3, np.uint8)}, Schema()).model_copy(
    update={"chat": CHAT}
)
PASSAGES = [
    f"Passage {i} says that the {animal} lives in {place}, and nothing" + " else of any use" * 9
    for i, (animal, place) in enumerate(
        zip(
            ["zebra", "owl", "seal", "fox", "bee", "carp", "yak", "newt"],
            ["Kenya", "a barn", "the sea", "a wood", "a hive", "a pond", "Tibet", "a ditch"],
            strict=True,
        )
    )
]
TEXT = "\n\n".join(PASSAGES)


def asked(question: str, passage: str = TEXT, **fields: int) -> AnswerRequest:
    return AnswerRequest(model="m", passage=passage, question=question, **fields)


def prompt(task: LanguageModelling, request: AnswerRequest) -> tuple[str, list[str]]:
    """What the model reads, and the passages that it is said to."""
    encoded = ANSWER.encode(task, request)
    return task.text(encoded["tokens"][0]), [TEXT[start:end] for start, end in encoded["spans"]]


class Script:
    """Writes a given text, whatever it reads, and then goes on with tildes."""

    def __init__(self, text: str) -> None:
        self.tokens = [*TASK.tokens(text), *TASK.tokens("~" * 600)]

    def __call__(self, inputs: Arrays) -> Arrays:
        tokens = inputs["tokens"]
        logits = np.zeros((1, tokens.shape[1], TASK.vocabulary), np.float32)
        written = int(inputs["state"].item()) + (tokens.shape[1] == 1)
        logits[:, -1, self.tokens[written]] = 9
        return {"logits": logits, "next_state": inputs["state"] + np.float32(tokens.shape[1] == 1)}


def test_it_stands_among_the_operations() -> None:
    assert ANSWER in OPERATIONS
    assert (ANSWER.endpoint, ANSWER.own, ANSWER.media_types) == ("/answer", False, ("application/json",))


def test_the_best_passages_are_read_in_the_order_of_the_text() -> None:
    read, used = prompt(TASK, asked("Does the newt live in Tibet, like the seal?"))
    assert len(used) == BEST < len(PASSAGES)
    assert {PASSAGES[i] for i in (2, 6, 7)} < set(used)
    assert used == [passage for passage in PASSAGES if passage in used]
    assert read.startswith(f"<system>{SYSTEM}<user>")
    assert "\n\n".join(used) in read
    assert read.endswith("Question: Does the newt live in Tibet, like the seal?<answer>")


def test_a_short_text_is_read_as_a_whole() -> None:
    text = "\n\n".join(PASSAGES[:3])
    read, _ = prompt(TASK, asked("What of it?", text))
    assert text in read


@pytest.mark.parametrize("places", [500, 700, 1000, 2000])
def test_passages_leave_room_for_the_answer(places: int) -> None:
    task = TASK.model_copy(update={"places": places})
    request = asked("Where does the yak live?", max_tokens=50)
    tokens = ANSWER.encode(task, request)["tokens"]
    _, used = prompt(task, request)
    assert PASSAGES[6] in used
    assert places - 50 - len(max(PASSAGES, key=len)) < tokens.shape[1] <= places - 50 or len(used) == BEST
    assert ANSWER.answer(task, Script("In Tibet."), request)["answer"] == "In Tibet."


def test_a_passage_that_is_too_long_gives_way_to_a_shorter_one() -> None:
    long, short = ("yak " * 140).strip(), "The yak is here. " + "So it is. " * 15
    task = TASK.model_copy(update={"places": 650})
    encoded = ANSWER.encode(task, asked("yak?", f"{long}\n\n{short}", max_tokens=20))
    (span,) = encoded["spans"].tolist()
    assert span == [len(long) + 2, len(long) + 2 + len(short.strip())]


@pytest.mark.parametrize(
    ("task", "request_", "words"),
    [
        (TASK.model_copy(update={"chat": None}), asked("?"), "holds no conversations"),
        (TASK, asked("?", " \n "), "passage: there is nothing to read in it"),
        (
            TASK.model_copy(update={"places": 400}),
            asked("?", max_tokens=30),
            "the 370 that the model can read beside an answer of 30 ",
        ),
        (TASK.model_copy(update={"places": 400}), asked("?", max_tokens=500), "than the 0 that the model"),
    ],
    ids=["no chat", "blank", "no room", "no room at all"],
)
def test_what_cannot_be_answered(task: LanguageModelling, request_: AnswerRequest, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        ANSWER.encode(task, request_)


def test_the_answer() -> None:
    answer = ANSWER.answer(TASK, Script(" In Tibet.\n"), asked("Where does the yak live?"))
    assert answer.keys() == {"answer", "passages", "spans"}
    assert answer["answer"] == "In Tibet."
    assert answer["passages"] == [TEXT[start:end] for start, end in answer["spans"]]
    assert PASSAGES[6] in answer["passages"]


def test_the_answer_is_no_longer_than_asked_for() -> None:
    answer = ANSWER.answer(TASK, Script("In Tibet it lives."), asked("Where?", max_tokens=8))
    assert answer["answer"] == "In Tibet"


def test_an_example_for_models_that_hold_conversations() -> None:
    own = {"model": "m", "prompt": "x"}
    assert ANSWER.example(TASK.model_copy(update={"chat": None}), own) is None
    example = ANSWER.example(TASK, own)
    assert example == {"model": "m", **EXAMPLE}
    assert ANSWER.answer(TASK, Script("In Warsaw."), AnswerRequest(**example))["answer"] == "In Warsaw."
