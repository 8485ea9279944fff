"""Answers to questions about a text: a model that holds conversations reads the most relevant passages."""

from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from zoo.errors import InvalidInput, TextTooLong
from zoo.tasks.base import Arrays, Generation, Request, Response, Run
from zoo.tasks.chat import Chat
from zoo.tasks.language_modelling import MAX_PROMPT_TOKENS, LanguageModelling
from zoo.tasks.operation import Operation
from zoo.tasks.retrieval import Span, passages, ranked
from zoo.tasks.sampling import Sampling
from zoo.tasks.writing import Instructions

MAX_TEXT = 2_000_000  # characters, a thick book: a second of work
MAX_QUESTION = 1024  # characters
MAX_ANSWER_TOKENS = 512
BEST = 6  # maximum passages in a prompt: about 1,000 tokens, which a small model reads in a second or two

SYSTEM = (
    "You answer questions about a text. Answer in one or two short sentences, with nothing but what the "
    "given passages say. If they do not say it, answer that the text does not say."
)
EXAMPLE = {
    "passage": "Marie Curie was born in Warsaw in 1867.\n\nIn 1898 she and her husband discovered polonium.",
    "question": "Where was Marie Curie born?",
}


class AnswerRequest(Request):
    """A question about a text."""

    max_lists: ClassVar[int] = MAX_TEXT

    passage: Annotated[
        str,
        Field(min_length=1, max_length=MAX_TEXT, description="The text, of which the best parts are read."),
    ]
    question: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION)]
    max_tokens: Annotated[
        int, Field(ge=1, le=MAX_ANSWER_TOKENS, description="Tokens of the answer at most.")
    ] = 128


class AnswerResponse(Response):
    """The most likely answer, and the passages that the model read for it."""

    answer: str
    passages: Annotated[list[str], Field(description="Parts of the text that were read, in its order.")]
    spans: Annotated[
        list[Span], Field(description="Where each begins in the text, and where it has ended, in characters.")
    ]


def _encode(task: LanguageModelling, request: AnswerRequest) -> Arrays:
    """Returns `tokens` [1, T] of the conversation, and `spans` [P, 2] of the passages in it.

    The best passages are used, except those that leave no room for the answer.
    """
    if task.chat is None:
        raise InvalidInput("this model holds no conversations, and so answers no questions")
    room = MAX_PROMPT_TOKENS if task.places is None else task.places - request.max_tokens
    found = passages(request.passage)
    if not found:
        raise InvalidInput("passage: there is nothing to read in it")
    used: list[Span] = []
    for span in ranked(request.passage, found, request.question)[:BEST]:
        more = sorted([*used, span])
        longer = task.tokens(_conversation(task.chat, request, more))
        if len(longer) <= room:
            used, tokens = more, longer
    if not used:
        raise TextTooLong(
            f"the question and one passage have more tokens than the {max(0, room)} that the model can read "
            f"beside an answer of {request.max_tokens} (max_tokens); ask for less"
        )
    return {"tokens": tokens[None], "spans": np.array(used, np.int64)}


def _conversation(chat: Chat, request: AnswerRequest, spans: list[Span]) -> str:
    read = "\n\n".join(request.passage[start:end] for start, end in spans)
    asked = f"Passages:\n\n{read}\n\nQuestion: {request.question}"
    return chat.render([{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}])


def _generate(task: LanguageModelling, run: Run, request: AnswerRequest) -> Generation:
    asked = _encode(task, request)
    (prompt,) = asked["tokens"]
    known = {"spans": asked["spans"]}
    return task.writing(run, Instructions(prompt, request.max_tokens, Sampling(temperature=0), known=known))


def _decode(task: LanguageModelling, request: AnswerRequest, outputs: Arrays) -> dict[str, Any]:
    spans = outputs["spans"].tolist()
    return {
        "answer": task.text(outputs["tokens"][0]).strip(),
        "passages": [request.passage[start:end] for start, end in spans],
        "spans": spans,
    }


def _example(task: LanguageModelling, own: dict[str, Any]) -> dict[str, Any] | None:
    return None if task.chat is None else {"model": own["model"], **EXAMPLE}


ANSWER = Operation(
    LanguageModelling,
    "/answer",
    AnswerRequest,
    AnswerResponse,
    _encode,
    _decode,
    generate=_generate,
    example=_example,
)
