"""Parsing and validation of the request bodies of `/v1/completions` and `/v1/chat/completions`.

https://platform.openai.com/docs/api-reference
"""

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from serving.json_size import JsonSize, node_count
from serving.memory import Body
from serving.protocols.openai.problem import refusal
from serving.protocols.v2.request import json_object
from serving.protocols.zoo_request import COUNTLESS, reported
from zoo.tasks.language_modelling import MAX_NEW_TOKENS, MAX_STOPS, Stop
from zoo.tasks.nulls import without_nulls

T = TypeVar("T", bound="WritingRequest")

MAX_CHOICES = 128  # OpenAI's limit; how many texts are generated at a time is a setting
MAX_MESSAGES = 4096
MAX_TEXTS = 2048  # prompts; OpenAI's limit
MAX_TOKEN_NUMBERS = 1 << 17  # far more than any model here has positions for
MAX_FIELDS = 256  # of the top-level object; OpenAI's API has fifty
MAX_NODES = 1 << 18  # values in the body; 16 prompts of 8,192 tokens have half as many
MAX_LISTS = 1 << 20  # lists and objects, counted with the brackets and braces inside strings
MAX_BIASED = 1024  # tokens; each costs time at every step
LONGEST_NAME = 64  # characters of a field name that a message shows

TokenNumbers = Annotated[list[int], Field(min_length=1, max_length=MAX_TOKEN_NUMBERS, fail_fast=True)]

IGNORED = {
    "metadata",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
}
"""Fields of OpenAI's API that do not affect the generated text; they are ignored."""
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "reasoning_effort": ("none",),
    "suffix": ("",),
    "tool_calls": ([],),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""Unsupported fields that would affect the text, and the values with which they do not."""
CHOICES = {"tools": "tool_choice", "functions": "function_call"}
"""Fields that offer tools, and the fields that choose from them: with the choice "none", no tool is used."""


def _few_biases(given: Any) -> Any:
    """Refuses too many biases before pydantic validates each one."""
    if isinstance(given, dict) and len(given) > MAX_BIASED:
        raise ValueError(f"at most {MAX_BIASED} tokens may have a bias, not {len(given)}")
    return given


class OpenRequest(BaseModel):
    """Part of a request; `require_supported` checks the fields that the model does not declare."""

    model_config = ConfigDict(extra="allow", strict=True)

    _without_nulls = model_validator(mode="before")(without_nulls)


class StreamOptions(OpenRequest):
    """Options of a streamed answer."""

    include_usage: Annotated[
        bool, Field(description="Counts the tokens in an event behind the last text.")
    ] = False


class JsonSchema(OpenRequest):
    """JSON Schema that the text must match."""

    name: Annotated[str, Field(max_length=64)]
    json_schema: Annotated[dict[str, Any], Field(alias="schema")] = {}


class ResponseFormat(OpenRequest):
    """Format of the text."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class WritingRequest(OpenRequest):
    """Fields that both paths accept."""

    model: Annotated[str, Field(min_length=1)]
    max_tokens: Annotated[
        int | None, Field(ge=1, le=MAX_NEW_TOKENS, description="Tokens to write at most.")
    ] = None
    temperature: Annotated[float, Field(ge=0, le=2, description="0 always takes the likeliest token.")] = 1.0
    top_p: Annotated[
        float,
        Field(ge=0, le=1, description="Choose among the likeliest tokens of this probability together."),
    ] = 1.0
    top_k: Annotated[
        int, Field(ge=0, description="Choose among so many tokens; 0 for all. Not OpenAI's.")
    ] = 0
    seed: Annotated[
        int | None, Field(ge=-(2**63), lt=2**63, description="The same seed gives the same texts.")
    ] = None
    stop: Annotated[
        Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS, fail_fast=True)] | None,
        Field(description="Strings before which a text ends."),
    ] = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES, description="Texts for each prompt.")] = 1
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logit_bias: Annotated[
        dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]],
        BeforeValidator(_few_biases),
        Field(description="Added to the logits of tokens, by their numbers."),
    ] = {}
    response_format: ResponseFormat | None = None
    stream: Annotated[bool, Field(description="Server-sent events as the text is written.")] = False
    stream_options: StreamOptions | None = None

    text_field: ClassVar[str]
    """Name of the field with the prompt or messages."""

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings, as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def prompt_count(self) -> int:
        """Number of prompts in the request."""
        return 1

    @property
    def noted(self) -> int | None:
        """Number of alternatives in the logprobs of each token; None for no logprobs."""
        raise NotImplementedError

    @property
    def most(self) -> int | None:
        """Maximum number of tokens to generate; None for as many as there is room for."""
        raise NotImplementedError

    def check(self) -> None:
        """Checks rules that involve several fields; raises `Problem` with the name of the field."""
        if self.stream_options is not None and self.stream_options.include_usage and not self.stream:
            raise refusal("stream_options is for stream: true", "stream_options")
        wanted = self.response_format
        if wanted is not None and (wanted.type == "json_schema") != (wanted.json_schema is not None):
            place = "response_format.json_schema"
            raise refusal(f"{place}: goes with type json_schema, and is needed there", place)


class CompletionRequest(WritingRequest):
    """Prompts to continue."""

    prompt: Annotated[
        str
        | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)]
        | TokenNumbers
        | Annotated[list[TokenNumbers], Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)],
        Field(description="A text, or several, or their tokens' numbers."),
    ]
    echo: Annotated[bool, Field(description="Begins the answer with the prompt.")] = False
    best_of: Annotated[int | None, Field(ge=1, description="n, and nothing else.")] = None
    logprobs: Annotated[
        int | None,
        Field(ge=0, le=5, description="So many of the likeliest tokens at each place."),
        BeforeValidator(lambda given: None if given is False else given),
    ] = None

    text_field: ClassVar[str] = "prompt"

    @property
    def noted(self) -> int | None:
        return self.logprobs

    @property
    def most(self) -> int:
        return 16 if self.max_tokens is None else self.max_tokens  # OpenAI's default

    def check(self) -> None:
        super().check()
        if self.best_of not in (None, self.n):
            raise refusal("best_of: only n is supported", "best_of", "unsupported_parameter")
        if self.echo and self.logprobs is not None:
            raise refusal("logprobs: not supported with echo", "logprobs", "unsupported_parameter")

    @property
    def prompt_count(self) -> int:
        return len(self.prompts)

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, each a text or a list of token ids."""
        prompts: list[Any] = [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)
        return [prompts] if isinstance(prompts[0], int) else prompts


class TextPart(OpenRequest):
    """Text part of a message."""

    type: Literal["text"]
    text: str


def _joined(content: str | list[TextPart]) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


class ChatMessage(OpenRequest):
    """One message of a conversation; `developer` means the same as `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        str | Annotated[list[TextPart], Field(min_length=1, fail_fast=True)], AfterValidator(_joined)
    ]

    @property
    def plain(self) -> dict[str, str]:
        """The message in the form that chat templates expect."""
        return {"role": "system" if self.role == "developer" else self.role, "content": str(self.content)}


class ChatRequest(WritingRequest):
    """Conversation to continue."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    max_completion_tokens: Annotated[
        int | None, Field(ge=1, le=MAX_NEW_TOKENS, description="The newer name of max_tokens.")
    ] = None
    logprobs: Annotated[bool, Field(description="Says how likely each token was.")] = False
    top_logprobs: Annotated[
        int | None, Field(ge=0, le=20, description="So many of the likeliest tokens at each place.")
    ] = None

    text_field: ClassVar[str] = "messages"

    @property
    def noted(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def most(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def check(self) -> None:
        super().check()
        if self.top_logprobs and not self.logprobs:
            raise refusal("top_logprobs is for logprobs: true", "top_logprobs")
        if self.max_tokens not in (None, self.most):
            raise refusal("give either max_tokens or max_completion_tokens", "max_tokens")
        for number, message in enumerate(self.messages):
            require_supported(message, f"messages[{number}].", closed=False)


def require_holdable(size: JsonSize) -> None:
    """Refuses a JSON body, before it is parsed, with more lists and objects than any request can hold."""
    if size.lists + size.objects > MAX_LISTS:
        raise refusal(f"the body has {size.lists + size.objects:,} lists and objects; that is too many", None)


def parse(body: Body, kind: type[T]) -> T:
    """Parses a JSON body into a valid request; raises `Problem` 400 with the name of the field."""
    try:
        fields = json_object(body)
        if len(fields) > MAX_FIELDS:
            raise refusal(f"the body has {len(fields):,} fields; at most {MAX_FIELDS} are read", None)
        read = {name: value for name, value in fields.items() if name not in IGNORED}
        if node_count(read, MAX_NODES) > MAX_NODES:
            raise refusal(f"the body has over {MAX_NODES:,} values", None)
        request = kind.model_validate(read)
    except ValidationError as error:
        raise _refused(error) from None
    require_supported(request)
    request.check()
    return request


def require_supported(part: OpenRequest, place: str = "", *, closed: bool = True) -> None:
    """Refuses unsupported fields that would change the answer; if `closed`, also refuses unknown fields."""
    given = {name: value for name, value in (part.model_extra or {}).items() if value is not None}
    for name, value in given.items():
        shown = place + name[:LONGEST_NAME]
        if name in UNSUPPORTED:
            if value not in UNSUPPORTED[name] and given.get(CHOICES.get(name, "")) != "none":
                raise refusal(f"{shown}: not supported by this service", shown, "unsupported_parameter")
        elif closed and name not in IGNORED:
            raise refusal(f"{shown}: no such parameter", shown, "unknown_parameter")


def _refused(error: ValidationError) -> Exception:
    if error.error_count() > COUNTLESS:
        return refusal(f"{error.error_count()} fields do not fit the schema", None)
    place, message = next(iter(reported(error).items()))
    if message == "Field required":
        return refusal(f"{place}: required", place, "missing_required_parameter")
    return refusal(f"{place}: {message}", place)
