"""Language modelling: a text to what may come next, token by token.

Shape legend: N texts, T tokens, V vocabulary, S parts of the state, L layers, H hidden width.
"""

import math
import secrets
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from zoo.errors import InvalidInput
from zoo.tasks.base import Arrays, Axis, Generation, Request, Response, Run, Schema, Task
from zoo.tasks.baseline import distribution
from zoo.tasks.sampling import Sampling
from zoo.tasks.stopping import StopSearch
from zoo.tasks.text_tokenizer import (
    TOKEN,
    UNKNOWN,
    byte_pair_tokenizer,
    character_tokenizer,
    observed_tokens,
)

MAX_PROMPT = 65_536  # characters
MAX_PROMPTS = 16  # in one request; they are answered one after the other
MAX_PROMPT_TOKENS = 8192  # a second's reading or two
MAX_NEW_TOKENS = 4096
MAX_STOPS, MAX_STOP = 16, 256  # strings, and characters of one
MAX_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exactly
READ_AT_ONCE = 256  # tokens of a prompt in one run
STREAMS = 16  # parts of a text that are read side by side to measure a model on it
OPENING = 64  # characters of the training text's beginning, which serve as an example
TRANSCRIPTS, PROMPT, WRITTEN = 100, 32, 32  # greedy continuations that must be torch's own; tokens of each

Tokens = NDArray[np.int64]
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP)]


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(max_length=MAX_PROMPT)]


class GenerateTextRequest(Request):
    """A text to go on with."""

    prompt: Annotated[
        str | None, Field(max_length=MAX_PROMPT, description="The text so far; may be empty.")
    ] = None
    messages: Annotated[
        list[Message] | None, Field(min_length=1, description="A conversation, for models that hold one.")
    ] = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS, description="Tokens to write at most.")] = 256
    temperature: Annotated[
        float, Field(ge=0, le=2, description="0 always takes the likeliest token; above 1 is bolder.")
    ] = 1.0
    top_p: Annotated[
        float,
        Field(gt=0, le=1, description="Choose among the likeliest tokens of this probability together."),
    ] = 1.0
    top_k: Annotated[int, Field(ge=0, description="Choose among so many tokens; 0 for all.")] = 0
    seed: Annotated[
        int | None, Field(ge=0, le=MAX_SEED, description="The same seed gives the same text.")
    ] = None
    stop: Annotated[
        Stop | list[Stop] | None,
        Field(max_length=MAX_STOPS, description="Strings before which the text ends."),
    ] = None
    stream: Annotated[bool, Field(description="Server-sent events as the text is written.")] = False

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self

    @property
    def streamed(self) -> bool:
        return self.stream

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


SAMPLE = GenerateTextRequest(model="-", prompt="", max_tokens=400, temperature=0.8, seed=0)
"""What a model is asked to write, to show how well it does."""


class Usage(BaseModel):
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class GenerateTextResponse(Response):
    """What the model wrote, without the prompt."""

    text: str
    finish_reason: Annotated[
        Literal["stop", "length"], Field(description="A stop string came, or max_tokens were written.")
    ]
    usage: Usage


class LanguageModelling(Task):
    """Graph: `tokens` int64 [N, T], `state` float32 [N, S, L, H] -> `logits` float32 [N, T, V], `next_state`.

    The logits at a token are those of the one that follows it. A text begins with a state of zeros.
    """

    kind: Literal["language_modelling"] = "language_modelling"
    tokenizer: str
    """In the JSON of the library `tokenizers`."""
    opening: str
    """How the training text begins."""
    context: int = 128
    """Tokens that training reads at once; no statistic of the data, so a recipe may choose it."""
    state_shape: tuple[int, int, int] = (1, 1, 1)
    """[S, L, H] of the model."""

    endpoint: ClassVar[str] = "/generate_text"
    payload: ClassVar[str | None] = None
    primary_metric: ClassVar[str] = "bits_per_character"
    higher_is_better: ClassVar[bool] = False
    request_type: ClassVar[type[GenerateTextRequest]] = GenerateTextRequest
    response_type: ClassVar[type[Response]] = GenerateTextResponse
    inputs: ClassVar[tuple[str, ...]] = ("tokens", "state")
    outputs: ClassVar[tuple[str, ...]] = ("logits", "next_state")
    documents: ClassVar[tuple[str, ...]] = ("tokenizer",)
    max_batch: ClassVar[int] = MAX_PROMPTS

    @classmethod
    def fit(cls, train: Arrays, schema: Schema) -> Self:
        """`train` holds `text`, uint8 [bytes] of UTF-8."""
        text = _text_of(train)
        if schema.vocabulary:
            tokenizer = byte_pair_tokenizer([text], schema.vocabulary)
        else:
            tokenizer = character_tokenizer(text)
        return cls(tokenizer=tokenizer.to_str(), opening=text[:OPENING])

    @cached_property
    def codec(self) -> Tokenizer:
        """The tokenizer itself."""
        return Tokenizer.from_str(self.tokenizer)

    @property
    def vocabulary(self) -> int:
        """V."""
        return int(self.codec.get_vocab_size())

    def examples(self, split: Arrays) -> Arrays:
        """`tokens` [N, T] and `target` [N, T], the tokens that follow each, of texts that follow one another.

        What is left over at the end is left out. `InvalidInput` where the text is too short for one.
        """
        tokens = self._tokens(_text_of(split))
        rows = (len(tokens) - 1) // self.context
        if rows == 0:
            raise InvalidInput(
                f"a split of the text has {len(tokens)} tokens, too few for a context of {self.context}"
            )
        cut = rows * self.context
        return {
            "tokens": tokens[:cut].reshape(rows, self.context),
            "target": tokens[1 : cut + 1].reshape(rows, self.context),
        }

    def encode(self, request: GenerateTextRequest) -> Arrays:
        """The whole prompt; an empty one is a line break, after which a text begins."""
        if request.prompt is None:
            raise InvalidInput("messages: this model holds no conversations; give a prompt")
        tokens = self._tokens(request.prompt or "\n")
        if len(tokens) > MAX_PROMPT_TOKENS:
            raise InvalidInput(f"prompt has {len(tokens)} tokens; at most {MAX_PROMPT_TOKENS} are read")
        return {"tokens": tokens[None], "state": self._start(1)}

    def generate(self, run: Run, request: GenerateTextRequest) -> "Writing":
        return Writing(self, run, request)

    def decode(self, request: GenerateTextRequest, outputs: Arrays) -> dict[str, Any]:
        """Of `tokens` [1, T], those that were written, and `prompt_tokens`, how many were read."""
        search = StopSearch(request.stops)
        text = search.add(self.text(outputs["tokens"][0]))
        read, written = int(outputs["prompt_tokens"]), outputs["tokens"].shape[1]
        return {
            "text": text if search.found else text + search.rest(),
            "finish_reason": "stop" if search.found else "length",
            "usage": {
                "prompt_tokens": read,
                "completion_tokens": written,
                "total_tokens": read + written,
            },
        }

    def request_for(self, examples: Arrays, model: str) -> dict[str, Any]:
        """Of one text: a request has one prompt. The state is no part of it."""
        if len(examples["tokens"]) != 1:
            raise InvalidInput("a request has one prompt")
        prompt = self.text(examples["tokens"][0])
        return {"model": model, "prompt": prompt, "max_tokens": WRITTEN, "temperature": 0.0}

    def example_inputs(self, batch: int) -> Arrays:
        """The text's opening, in every row from another place on."""
        tokens = self._tokens(self.opening)
        return {
            "tokens": np.stack([np.roll(tokens, -row) for row in range(batch)]),
            "state": self._start(batch),
        }

    def varying_axes(self) -> dict[str, Axis]:
        return {"tokens": Axis(1, "time")}

    def evaluate(self, run: Run, split: Arrays) -> dict[str, float]:
        """`loss` in nats a token; texts that follow one another are read as one, in STREAMS parts."""
        rows = len(split["tokens"])
        streams = min(STREAMS, rows)
        length = rows // streams * self.context  # tokens of each part
        tokens, target = (
            split[name].reshape(-1)[: streams * length].reshape(streams, length)
            for name in ("tokens", "target")
        )
        state, nats = self._start(streams), 0.0
        for begin in range(0, length, READ_AT_ONCE):
            part = slice(begin, begin + READ_AT_ONCE)
            outputs = run({"tokens": tokens[:, part], "state": state})
            state = outputs["next_state"]
            nats += _surprise(outputs["logits"], target[:, part])
        loss = nats / target.size
        characters = sum(len(self.text(row)) for row in target)
        return {
            "bits_per_character": nats / math.log(2) / characters,
            "loss": loss,
            "perplexity": math.exp(loss),
        }

    def transcripts(self, run: Run, split: Arrays) -> Tokens:
        """Greedy continuations of the first tokens of rows from all over the split."""
        places = np.linspace(0, len(split["tokens"]) - 1, TRANSCRIPTS).astype(np.int64)
        tokens, state = split["tokens"][places, :PROMPT], self._start(TRANSCRIPTS)
        written = []
        for _ in range(WRITTEN):
            outputs = run({"tokens": tokens, "state": state})
            tokens, state = outputs["logits"][:, -1:].argmax(axis=2), outputs["next_state"]
            written.append(tokens)
        return np.concatenate(written, axis=1)

    def baseline(self, train: Arrays) -> dict[str, Any]:
        return {TOKEN: distribution(train["tokens"].ravel())}

    def observed_names(self) -> tuple[str, ...]:
        return (TOKEN,)

    def observed(self, asked: NDArray[Any]) -> NDArray[Any]:
        return observed_tokens(asked)[:, None]

    def text(self, tokens: Tokens) -> str:
        """What tokens [T] stand for."""
        return str(self.codec.decode(tokens.tolist(), skip_special_tokens=False))

    def _tokens(self, text: str) -> Tokens:
        return np.array(self.codec.encode(text, add_special_tokens=False).ids, np.int64)

    def _start(self, texts: int) -> NDArray[np.float32]:
        return np.zeros((texts, *self.state_shape), np.float32)


class Writing(Generation):
    """A text that a language model writes: its pieces end where a stop string begins."""

    def __init__(self, task: LanguageModelling, run: Run, request: GenerateTextRequest) -> None:
        """`InvalidInput` where the prompt does not fit."""
        self._task, self._run, self._request = task, run, request
        self._inputs = task.encode(request)
        self._unread, self._state = self._inputs["tokens"][0], self._inputs["state"]
        self._prompt_tokens = len(self._unread)
        self._written: list[int] = []
        self._shown = 0  # characters that went through the search for stop strings
        self._sampling = Sampling(request.temperature, request.top_k, request.top_p)
        seed = secrets.randbits(64) if request.seed is None else request.seed
        self._random = np.random.default_rng(seed)
        self._forbidden = task.codec.token_to_id(UNKNOWN)
        self._decoding = DecodeStream(skip_special_tokens=False)
        self._search = StopSearch(request.stops)
        self._ended = False

    @property
    def inputs(self) -> Arrays:
        return self._inputs

    @property
    def outputs(self) -> Arrays:
        return {
            "tokens": np.array([self._written], np.int64),
            "prompt_tokens": np.array(self._prompt_tokens),
        }

    def __next__(self) -> str:
        if self._ended:
            raise StopIteration
        read, self._unread = np.split(self._unread, [READ_AT_ONCE])
        outputs = self._run({"tokens": read[None], "state": self._state})
        self._state = outputs["next_state"]
        if len(self._unread):
            return ""
        logits = outputs["logits"][0, -1]
        if self._forbidden is not None:
            logits[self._forbidden] = -np.inf
        token = self._sampling.choose(logits, self._random)
        self._written.append(token)
        self._unread = np.array([token], np.int64)
        piece = self._decoding.step(self._task.codec, token) or ""  # no letter of several bytes is cut
        self._shown += len(piece)
        if len(self._written) == self._request.max_tokens:
            piece += self._task.text(np.array(self._written))[self._shown :]
            self._ended = True
        certain = self._search.add(piece)
        self._ended = self._ended or self._search.found
        return certain + self._search.rest() if self._ended and not self._search.found else certain


def _text_of(split: Arrays) -> str:
    return split["text"].tobytes().decode("utf-8")


def _surprise(logits: NDArray[np.float32], target: Tokens) -> float:
    """Nats in all of target tokens [N, T] under logits [N, T, V]."""
    exact = logits.astype(np.float64)
    largest = exact.max(axis=2, keepdims=True)
    total = np.log(np.exp(exact - largest).sum(axis=2)) + largest[..., 0]
    return float((total - np.take_along_axis(exact, target[..., None], axis=2)[..., 0]).sum())
