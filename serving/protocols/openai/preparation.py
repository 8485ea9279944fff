"""Preparation of a request: finds the model, tokenizes the prompts and begins the texts."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from serving.catalogue import Catalogue, Served
from serving.context import RequestContext
from serving.inference import Inference
from serving.problem import Problem
from serving.protocols.openai.choice import Choice
from serving.protocols.openai.grammar import JsonGrammar, schema_of
from serving.protocols.openai.logprobs import Words
from serving.protocols.openai.problem import blaming, refusal
from serving.protocols.openai.request import ChatRequest, CompletionRequest, WritingRequest
from serving.protocols.openai.schema_trials import SchemaTrials
from serving.timing import Timing
from zoo.errors import NotFound, TextTooLong
from zoo.tasks.language_modelling import MAX_NEW_TOKENS, MAX_PROMPT, LanguageModelling
from zoo.tasks.memory import Tokens
from zoo.tasks.sampling import Sampling
from zoo.tasks.writing import Instructions

UNKNOWN_MODEL = "model_not_found"


@dataclass(frozen=True)
class Prepared:
    """A valid request, the version that answers it, and its texts, not yet generated."""

    request: WritingRequest
    served: Served
    choices: list[Choice]
    words: Words | None
    """Bytes of each token; None if the request does not ask for logprobs."""
    read: int
    """Number of tokens in all prompts, each prompt counted once."""


def prepare(
    parse: Callable[[], WritingRequest],
    catalogue: Catalogue,
    inference: Inference,
    context: RequestContext,
    most: int,
    trials: SchemaTrials,
) -> Prepared:
    """Begins the texts, at most `most` of them; each is admitted when its generation starts.

    Raises `Untried` if the request has a schema that must be tried out first.
    """
    request = parse()
    task, champion = language_model(catalogue, request.model)
    served = inference.assign(context, champion)
    task = served.task if isinstance(served.task, LanguageModelling) else task
    timing = context.timing
    texts = request.prompt_count * request.n
    if texts > most:  # before prompts are tokenized, which takes 0.1 s each
        field = "n" if request.n > 1 else request.text_field
        raise refusal(f"{texts} texts asked for; at most {most} are written at a time", field)
    grammar = _grammar(request, task, context, trials)
    prompts = _prompts(request, task)
    asked = _instructions(request, task)
    choices: list[Choice] = []
    for prompt in prompts:
        for number in range(request.n):
            part = replace(context, timing=Timing(timing.model, timing.version), budget=None, reserved=0)
            one = replace(
                asked,
                prompt=prompt,
                max_tokens=_room(task, prompt) if request.most is None else request.most,
                seed=seed_of(request.seed, number),
                constraint=None if grammar is None else grammar.begin(),
            )
            with blaming(request.text_field):
                writing = task.writing(part.timing.counted(served.loaded.graph), one)
            echo = task.text(prompt) if isinstance(request, CompletionRequest) and request.echo else ""
            choices.append(Choice(len(choices), writing, echo, part))
    words = None if request.noted is None else task.token_bytes
    return Prepared(request, served, choices, words, sum(map(len, prompts)))


def language_model(catalogue: Catalogue, name: str) -> tuple[LanguageModelling, Served]:
    """Returns the language model with a name; 404 if there is none, or if it is a model of another kind."""
    try:
        served = catalogue.find(name)
    except NotFound as error:
        raise Problem(404, UNKNOWN_MODEL, str(error), field="model") from None
    if not isinstance(served.task, LanguageModelling):
        message = f"{name!r} is no language model: POST to {served.task.endpoint}"
        raise Problem(404, UNKNOWN_MODEL, message, field="model")
    return served.task, served


def seed_of(seed: int | None, number: int) -> int | None:
    """Returns the seed of one of a prompt's texts; the first uses the request's, unless it is negative."""
    if seed is None or (seed >= 0 and number == 0):
        return seed
    drawn = np.random.SeedSequence(seed % 2**64, spawn_key=(number,)).generate_state(1, np.uint64)
    return int(drawn[0])


def _prompts(request: WritingRequest, task: LanguageModelling) -> list[Tokens]:
    if isinstance(request, ChatRequest):
        if task.chat is None:
            message = f"{request.model!r} holds no conversations: POST to /v1/completions"
            raise refusal(message, "model", "no_chat_template")
        messages = [message.plain for message in request.messages]
        with blaming("messages"):
            return [_tokens(task, task.chat.render(messages))]
    assert isinstance(request, CompletionRequest)
    with blaming("prompt"):
        for prompt in request.prompts:
            if len(prompt) > MAX_PROMPT:
                raise TextTooLong(f"a prompt has {len(prompt):,} letters; at most {MAX_PROMPT:,} are read")
        return [_tokens(task, prompt) for prompt in request.prompts]


def _tokens(task: LanguageModelling, prompt: str | list[int]) -> Tokens:
    if isinstance(prompt, str):
        return task.prompt_tokens(prompt or "\n")  # an empty prompt becomes a line break
    task.require_short(len(prompt))  # before each token id is checked
    for number in prompt:
        _require_token(task, number, "prompt")
    return np.array(prompt, np.int64)


def _room(task: LanguageModelling, prompt: Tokens) -> int:
    """Returns the default number of tokens to write; 1 if there is no room, which is refused later."""
    if task.places is None:
        return MAX_NEW_TOKENS
    return max(1, min(MAX_NEW_TOKENS, task.places - len(prompt)))


def _instructions(request: WritingRequest, task: LanguageModelling) -> Instructions:
    """Returns the instructions that all texts of a request share."""
    bias = {int(token): value for token, value in request.logit_bias.items()}
    for token in bias:
        _require_token(task, token, "logit_bias")
    sampling = Sampling(
        request.temperature,
        request.top_k,
        request.top_p,
        request.presence_penalty,
        request.frequency_penalty,
        bias,
    )
    return Instructions(np.empty(0, np.int64), 1, sampling, stops=request.stops, top_logprobs=request.noted)


def _grammar(
    request: WritingRequest, task: LanguageModelling, context: RequestContext, trials: SchemaTrials
) -> JsonGrammar | None:
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.json_schema is not None:
        context.reserve(trials.size(schema_of(wanted)))
    return JsonGrammar(task, wanted)


def _require_token(task: LanguageModelling, number: int, field: str) -> None:
    if not 0 <= number < task.vocabulary:
        raise refusal(f"{field}: no token {number}; there are {task.vocabulary}", field)
