"""Language modelling: a text to its continuation, token by token.

Shape legend: N texts, T tokens, V vocabulary.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from tokenizers import Tokenizer

from zoo.errors import InvalidInput, TextTooLong
from zoo.tasks.base import Arrays, Axis, Request, Response, Run, Schema, Signature, Task
from zoo.tasks.baseline import distribution
from zoo.tasks.chat import Chat
from zoo.tasks.conversations import CONVERSATIONS, UNSAID, conversation_examples, lengths
from zoo.tasks.memory import AnyMemory, KeyValueCache, Logits, RecurrentState, Tokens
from zoo.tasks.nulls import without_nulls
from zoo.tasks.sampling import Sampling
from zoo.tasks.stopping import StopSearch
from zoo.tasks.text_tokenizer import (
    TOKEN,
    UNKNOWN,
    byte_pair_tokenizer,
    character_tokenizer,
    observed_tokens,
    surely_longer,
    token_bytes,
)
from zoo.tasks.writing import READ_AT_ONCE, Instructions, Writing, text

MAX_PROMPT = 65_536  # characters
PROMPT_PART = 16_384  # characters tokenized at a time, in up to 70 ms, until a prompt proves too long
MAX_MESSAGES = 4096  # in one conversation
MAX_PROMPTS = 16  # in one request; they are answered one after another
MAX_PROMPT_TOKENS = 8192  # read in a second or two
MAX_NEW_TOKENS = 4096
MAX_STOPS, MAX_STOP = 16, 256  # stop strings, and characters in one
MAX_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exactly
STREAMS = 16  # parts of a text that an evaluation reads in parallel
MOST_LOGITS = 1 << 26  # in one run: a quarter of a gigabyte
OPENING = 64  # characters from the beginning of the training text, used as example inputs
SAMPLED = 400  # tokens in a sample
TRANSCRIPTS, PROMPT, WRITTEN = 100, 32, 32  # greedy continuations that must equal torch's; their tokens

Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP)]


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(max_length=MAX_PROMPT)]

    _without_nulls = model_validator(mode="before")(without_nulls)


class GenerateTextRequest(Request):
    """A prompt or a conversation for the model to continue."""

    max_lists: ClassVar[int] = 1 << 20

    prompt: Annotated[
        str | None, Field(max_length=MAX_PROMPT, description="The text so far; may be empty.")
    ] = None
    messages: Annotated[
        Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)] | None,
        Field(description="A conversation, for models that hold one."),
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
        Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS, fail_fast=True)] | None,
        Field(description="Strings before which the text ends."),
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
        """Stop strings as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class Usage(BaseModel):
    """Number of tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class GenerateTextResponse(Response):
    """Text that the model wrote, without the prompt."""

    text: str
    finish_reason: Annotated[
        Literal["stop", "length"],
        Field(description="The text ended by itself or by a stop string, or max_tokens were written."),
    ]
    usage: Usage


class LanguageModelling(Task):
    """Graph: `tokens` int64 [N, T] and the model's memory -> `logits` float32 and the memory after them.

    The logits at a position are those of the next token.
    """

    kind: Literal["language_modelling"] = "language_modelling"
    tokenizer: str
    """Tokenizer as JSON of the library `tokenizers`."""
    opening: str
    """Beginning of the training text."""
    context: int = 128
    """Number of tokens that training reads at once. Not a statistic of the data: a recipe may choose it."""
    memory: AnyMemory = RecurrentState()
    places: int | None = None
    """Maximum number of tokens in a text, prompt included; None if the model has no such limit."""
    chat: Chat | None = None
    """Chat format of a model that holds conversations; None for other models."""

    endpoint: ClassVar[str] = "/generate_text"
    payload: ClassVar[str | None] = None
    primary_metric: ClassVar[str] = "bits_per_character"
    higher_is_better: ClassVar[bool] = False
    request_type: ClassVar[type[GenerateTextRequest]] = GenerateTextRequest
    response_type: ClassVar[type[Response]] = GenerateTextResponse
    inputs: ClassVar[tuple[str, ...]] = ("tokens",)
    outputs: ClassVar[tuple[str, ...]] = ("logits",)
    documents: ClassVar[tuple[str, ...]] = ("tokenizer",)
    max_batch: ClassVar[int] = MAX_PROMPTS

    @classmethod
    def fit(cls, train: Arrays, schema: Schema) -> Self:
        """Fits to `train`, which holds `text`, uint8 [bytes] of UTF-8."""
        text = _text_of(train)
        if schema.vocabulary:
            tokenizer = byte_pair_tokenizer([text], schema.vocabulary)
        else:
            tokenizer = character_tokenizer(text)
        return cls(tokenizer=tokenizer.to_str(), opening=text[:OPENING])

    @cached_property
    def codec(self) -> Tokenizer:
        """Tokenizer object."""
        return Tokenizer.from_str(self.tokenizer)

    @cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        """UTF-8 bytes of each token, which may be a part of a character."""
        return token_bytes(self.codec)

    @property
    def vocabulary(self) -> int:
        """V."""
        return int(self.codec.get_vocab_size())

    def examples(self, split: Arrays) -> Arrays:
        """Returns `tokens` [N, T] and `target` [N, T], the token that follows each, of consecutive texts.

        Tokens at the end that do not fill a row are dropped. For conversations see `conversation_examples`.
        Raises `InvalidInput` if the text is too short for one row.
        """
        if CONVERSATIONS in split:
            if self.chat is None:
                raise InvalidInput("the data set holds conversations, which this model does not")
            return conversation_examples(split, self.chat, self.codec, self.context)
        tokens = self.tokens(_text_of(split))
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
        """Returns the tokens of the whole prompt or conversation.

        An empty prompt becomes a line break, after which a text begins.
        """
        if request.messages is None:
            prompt = request.prompt or "\n"
        elif self.chat is None:
            raise InvalidInput("messages: this model holds no conversations; give a prompt")
        else:
            prompt = self.chat.render([message.model_dump() for message in request.messages])
        return {"tokens": self.prompt_tokens(prompt)[None]}

    def generate(self, run: Run, request: GenerateTextRequest) -> Writing:
        (prompt,) = self.encode(request)["tokens"]
        sampling = Sampling(request.temperature, request.top_k, request.top_p)
        return self.writing(
            run, Instructions(prompt, request.max_tokens, sampling, request.seed, tuple(request.stops))
        )

    def writing(self, run: Run, asked: Instructions) -> Writing:
        """Begins a text; raises `TextTooLong` if it could become longer than the model can read."""
        read, most = len(asked.prompt), self.places
        self.require_short(read)
        if most is not None and read + asked.max_tokens > most:
            raise TextTooLong(
                f"prompt has {read} tokens, which with {asked.max_tokens} to be written (max_tokens) "
                f"are more than the {most} that the model can read"
            )
        return Writing(self.codec, self.memory, run, replace(asked, ends=self.ends, forbidden=self._unknown))

    def require_short(self, tokens: int) -> None:
        """Raises `TextTooLong` if a prompt has more tokens than the model ever reads."""
        if tokens > self._most_read:
            raise TextTooLong(f"prompt has {tokens} tokens; at most {self._most_read} are read")

    def prompt_tokens(self, text: str) -> Tokens:
        """Returns the tokens [T] of a prompt.

        Raises `TextTooLong` if it is far too long, after tokenizing only its beginning.
        """
        if surely_longer(self.codec, text, self._most_read, PROMPT_PART):
            raise TextTooLong(f"prompt has over {self._most_read} tokens; at most {self._most_read} are read")
        return self.tokens(text)

    @property
    def _most_read(self) -> int:
        return MAX_PROMPT_TOKENS if self.places is None else self.places

    @cached_property
    def ends(self) -> frozenset[int]:
        """Tokens with which a text ends by itself."""
        return frozenset() if self.chat is None else self._numbers(self.chat.ends)

    @cached_property
    def _unknown(self) -> frozenset[int]:
        return self._numbers([UNKNOWN])

    def _numbers(self, tokens: Iterable[str]) -> frozenset[int]:
        numbers = map(self.codec.token_to_id, tokens)
        return frozenset(number for number in numbers if number is not None)

    def decode(self, request: GenerateTextRequest, outputs: Arrays) -> dict[str, Any]:
        """Decodes the outputs: `tokens` [1, T] written, `prompt_tokens` read, and `stopped`.

        `stopped` is true if the text ended by itself or by a stop string.
        """
        search = StopSearch(request.stops)
        text = search.add(self.text(outputs["tokens"][0]))
        read, written = int(outputs["prompt_tokens"]), outputs["tokens"].shape[1]
        return {
            "text": text if search.found else text + search.rest(),
            "finish_reason": "stop" if outputs["stopped"] else "length",
            "usage": {
                "prompt_tokens": read,
                "completion_tokens": written,
                "total_tokens": read + written,
            },
        }

    def request_for(self, examples: Arrays, model: str) -> dict[str, Any]:
        """Returns a request for one text, as a request has one prompt. It does not contain the memory."""
        if len(examples["tokens"]) != 1:
            raise InvalidInput("a request has one prompt")
        prompt = self.text(examples["tokens"][0])
        return {"model": model, "prompt": prompt, "max_tokens": WRITTEN, "temperature": 0.0}

    def example_inputs(self, batch: int) -> Arrays:
        """Returns the tokens of the text's opening, rotated by one more token in each row."""
        tokens = self.tokens(self.opening)
        return {"tokens": np.stack([np.roll(tokens, -row) for row in range(batch)])}

    def signatures(self) -> tuple[Signature, ...]:
        return (self.memory.signature(),)

    def examples_for(self, signature: Signature, batch: int) -> Arrays:
        tokens = self.example_inputs(batch)["tokens"]
        return self.memory.example(tokens[:, : self.memory.example_tokens])

    def varying_axes(self) -> dict[str, Axis]:
        return {"tokens": Axis(1, "time")}

    def evaluate(self, run: Run, split: Arrays) -> dict[str, float]:
        """Returns the metrics of a run over a split; `loss` is in nats per token.

        With a recurrent state, consecutive texts are read as one, in STREAMS parts; with a cache each row is
        read alone. For conversations, only tokens of the answers count.
        """
        tokens, target = split["tokens"], split["target"]
        if isinstance(self.memory, KeyValueCache):
            nats = self._surprise_of_rows(run, tokens, target)
        else:
            tokens, target = _side_by_side(tokens), _side_by_side(target)
            held, nats = self.memory.start(len(tokens), 0), 0.0
            for begin in range(0, tokens.shape[1], READ_AT_ONCE):
                part = slice(begin, begin + READ_AT_ONCE)
                logits, held = self.memory.read(run, tokens[:, part], held, whole=True)
                nats += _surprise(logits, target[:, part])
        loss = nats / np.count_nonzero(target != UNSAID)
        characters = sum(len(self.text(row[~np.isin(row, [UNSAID, *self.ends])])) for row in target)
        return {
            "bits_per_character": nats / math.log(2) / characters,
            "loss": loss,
            "perplexity": math.exp(loss),
        }

    def lengths(self, split: Arrays) -> Tokens | None:
        """Returns the lengths of conversations; None for rows of a text, which have equal lengths."""
        return lengths(split["target"]) if (split["target"] == UNSAID).any() else None

    def transcripts(self, run: Run, split: Arrays) -> Tokens:
        """Returns greedy continuations of the first tokens of rows that are evenly spaced over the split."""
        rows = np.linspace(0, len(split["tokens"]) - 1, TRANSCRIPTS).astype(np.int64)
        tokens, held = split["tokens"][rows, :PROMPT], self.memory.start(TRANSCRIPTS, PROMPT + WRITTEN)
        written = []
        for _ in range(WRITTEN):
            logits, held = self.memory.read(run, tokens, held)
            tokens = logits.argmax(axis=1)[:, None]
            written.append(tokens)
        return np.concatenate(written, axis=1)

    def baseline(self, train: Arrays) -> dict[str, Any]:
        tokens, lengths = train["tokens"], self.lengths(train)
        if lengths is None:
            return {TOKEN: distribution(tokens.ravel())}
        return {TOKEN: distribution(tokens[np.arange(tokens.shape[1]) < lengths[:, None]])}

    def observed_names(self) -> tuple[str, ...]:
        return (TOKEN,)

    def observed(self, asked: NDArray[Any]) -> NDArray[Any]:
        return observed_tokens(asked)[:, None]

    def text(self, tokens: Tokens) -> str:
        """Returns the text of tokens [T]."""
        return text(self.codec, tokens.tolist())

    def tokens(self, text: str) -> Tokens:
        """Returns the tokens [T] of a text."""
        return np.array(self.codec.encode(text, add_special_tokens=False).ids, np.int64)

    @property
    def sample(self) -> GenerateTextRequest:
        """Request whose answer is shown as a sample of the model's writing."""
        most = SAMPLED if self.places is None else min(SAMPLED, self.places - 1)  # the prompt is one token
        return GenerateTextRequest(model="-", prompt="", max_tokens=most, temperature=0.8, seed=0)

    def _surprise_of_rows(self, run: Run, tokens: Tokens, target: Tokens) -> float:
        """Returns the nats of target tokens [N, T], for rows that are each read from their beginning."""
        nats = 0.0
        rows = max(1, min(STREAMS, MOST_LOGITS // (tokens.shape[1] * self.vocabulary)))
        for begin in range(0, len(tokens), rows):
            part = target[begin : begin + rows]
            read = tokens[begin : begin + rows, : lengths(part).max()]
            logits, _ = self.memory.read(run, read, self.memory.start(*read.shape), whole=True)
            nats += _surprise(logits, part[:, : read.shape[1]])
        return nats


def _text_of(split: Arrays) -> str:
    return split["text"].tobytes().decode("utf-8")


def _side_by_side(rows: Tokens) -> Tokens:
    """Joins consecutive rows [N, T] into STREAMS longer ones, dropping those that do not fill them."""
    streams = min(STREAMS, len(rows))
    each = len(rows) // streams
    return rows[: streams * each].reshape(streams, each * rows.shape[1])


def _surprise(logits: Logits, target: Tokens) -> float:
    """Returns the nats of all target tokens [N, T] under logits [N, T, V]."""
    return sum(map(_surprise_of_row, logits, target))


def _surprise_of_row(logits: Logits, target: Tokens) -> float:
    """Returns the nats of target tokens [T] under logits [T, V]; only one row at a time is float64."""
    said = target != UNSAID
    exact = logits[said].astype(np.float64)
    largest = exact.max(axis=1, keepdims=True)
    total = np.log(np.exp(exact - largest).sum(axis=1)) + largest[:, 0]
    return float((total - np.take_along_axis(exact, target[said, None], axis=1)[:, 0]).sum())
