"""Sequence to sequence: a text to another text, such as a translation or a summary.

The encoder reads a text once. The decoder writes one token per step, and keeps the keys and values of earlier
tokens, so that all steps cost about the same.

Shape legend: N texts, S source tokens, T target tokens, P target tokens written before, L layers, H heads,
K width of a head, V vocabulary.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tokenizers import Tokenizer

from zoo.errors import InvalidInput
from zoo.tasks.base import Arrays, Axis, Generation, Request, Response, Run, Schema, Signature, Task
from zoo.tasks.baseline import distribution
from zoo.tasks.beam_search import BeamSearch, Hypothesis
from zoo.tasks.text_tokenizer import TOKEN, byte_pair_tokenizer, observed_tokens, surely_longer

MAX_TEXTS = 256  # in one request
MAX_CHARACTERS = 16_384  # in one text
MAX_BEAMS = 16
BEAMS = 5
SPECIAL = ("<pad>", "<s>", "</s>")
PADDING, BEGIN, END = range(len(SPECIAL))
LENGTH = "length"  # baseline name of a source's length in tokens
SLACK = 2  # ratio of a maximum length to the longest text of the training split
LEAST_LONGEST = 64  # tokens; no maximum length is smaller, apart from the end token
TEXT_PART, TEXTS_AT_ONCE = 2048, 16
"""Characters of a text, and texts, that are tokenized at a time until a text proves too long: 0.1 s."""
ROWS_AT_ONCE = 512  # rows of the decoder; bounds the memory that its keys and values take
TRANSCRIPTS = 100  # greedy texts that must equal torch's
EXAMPLES = 8  # texts of the training split that are used as examples

ENCODER = Signature("encoder", ("source",), ("memory_keys", "memory_values"))
DECODER = Signature(
    "decoder",
    ("tokens", "source", "memory_keys", "memory_values", "past_keys", "past_values"),
    ("logits", "keys", "values"),
)

Tokens = NDArray[np.int64]
Text = Annotated[str, Field(max_length=MAX_CHARACTERS)]


class TransformTextRequest(Request):
    """One text or several, to translate or to summarize."""

    max_lists: ClassVar[int] = MAX_TEXTS * MAX_CHARACTERS

    text: Annotated[
        Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)],
        Field(description="What to translate or to summarize."),
    ]
    beam_size: Annotated[
        int, Field(ge=1, le=MAX_BEAMS, description="Beginnings kept of each answer; 1 is greedy and fastest.")
    ] = BEAMS
    max_tokens: Annotated[
        int | None,
        Field(ge=1, description="Tokens of each answer at most; the model's own limit where none is given."),
    ] = None
    scores: Annotated[bool, Field(description="Whether to say how likely each answer is.")] = True

    @property
    def texts(self) -> list[str]:
        """Texts as a list."""
        return [self.text] if isinstance(self.text, str) else self.text


class TransformTextResponse(Response):
    """One answer per text, in request order."""

    texts: list[str]
    scores: Annotated[
        list[float] | None, Field(description="Mean log-probability of each answer's tokens; 0 is certain.")
    ]


class SequenceToSequence(Task):
    """Two graphs. Token 0 pads sources and is masked.

    `encoder`: `source` int64 [N, S] -> `memory_keys`, `memory_values` float32 [N, L, H, S, K].
    `decoder`: `tokens` int64 [N, T] after a past [N, L, H, P, K], the source and its memory -> `logits`
    float32 [N, T, V] of the token after each, and `keys`, `values` [N, L, H, P + T, K], the next step's past.
    """

    kind: Literal["sequence_to_sequence"] = "sequence_to_sequence"
    tokenizer: str
    """Tokenizer of sources and targets as JSON of the library `tokenizers`."""
    metric: Literal["bleu", "rouge_l", "exact"]
    """Primary metric."""
    opening: tuple[str, ...]
    """First source texts of the training split, used as examples."""
    max_source: int
    """Maximum number of tokens to read from a source, including its end token."""
    max_target: int
    """Maximum number of tokens to write, including the end token."""
    cache_shape: tuple[int, int, int] = (1, 1, 1)
    """[L, H, K] of the model."""
    no_repeat_ngram_size: int = 0
    """Size in tokens of n-grams that no answer may contain twice; 0 allows repetition."""

    endpoint: ClassVar[str] = "/transform_text"
    payload: ClassVar[str | None] = "text"
    higher_is_better: ClassVar[bool] = True
    request_type: ClassVar[type[TransformTextRequest]] = TransformTextRequest
    response_type: ClassVar[type[Response]] = TransformTextResponse
    inputs: ClassVar[tuple[str, ...]] = ENCODER.inputs
    outputs: ClassVar[tuple[str, ...]] = ENCODER.outputs
    documents: ClassVar[tuple[str, ...]] = ("tokenizer",)
    max_batch: ClassVar[int] = MAX_TEXTS

    @property
    def primary_metric(self) -> str:  # type: ignore[override]  # for this kind, the data set chooses
        """The metric by which versions are ranked."""
        return self.metric

    def signatures(self) -> tuple[Signature, ...]:
        return ENCODER, DECODER

    @classmethod
    def fit(cls, train: Arrays, schema: Schema) -> Self:
        """Fits to `train`, which holds `source` and `target`, arrays [N] of UTF-8 bytes."""
        sources, targets = (_texts(train[side]) for side in ("source", "target"))
        codec = byte_pair_tokenizer([*sources, *targets], schema.vocabulary, SPECIAL)
        longest = [max(map(len, codec.encode_batch_fast(texts))) for texts in (sources, targets)]
        return cls(
            tokenizer=codec.to_str(),
            metric=schema.metric,
            opening=tuple(sources[:EXAMPLES]),
            max_source=max(SLACK * longest[0], LEAST_LONGEST) + 1,
            max_target=max(SLACK * longest[1], LEAST_LONGEST) + 1,
        )

    @cached_property
    def codec(self) -> Tokenizer:
        """Tokenizer object."""
        return Tokenizer.from_str(self.tokenizer)

    @property
    def vocabulary(self) -> int:
        """V."""
        return int(self.codec.get_vocab_size())

    def examples(self, split: Arrays) -> Arrays:
        """Returns padded `source` [N, S] and `target` [N, T].

        Sources have an end token; targets have a begin and an end token.
        """
        return {
            "source": self._tokens(_texts(split["source"])),
            "target": self._tokens(_texts(split["target"]), BEGIN),
        }

    def encode(self, request: TransformTextRequest) -> Arrays:
        rows: list[list[int]] = []
        for start in range(0, len(request.texts), TEXTS_AT_ONCE):
            texts = request.texts[start : start + TEXTS_AT_ONCE]
            for place, text in enumerate(texts, start):
                if surely_longer(self.codec, text, self.max_source, TEXT_PART):
                    raise self._too_long(request, place, f"over {self.max_source}")
            rows += self._rows(texts)
            for place, row in enumerate(rows[start:], start):
                if len(row) > self.max_source:
                    raise self._too_long(request, place, str(len(row) - 1))
        return {"source": _filled(rows)}

    def generate(self, run: Run, request: TransformTextRequest) -> "Transformation":
        source = self.encode(request)["source"]
        return Transformation(self, run, source, request.beam_size, request.max_tokens)

    def decode(self, request: TransformTextRequest, outputs: Arrays) -> dict[str, Any]:
        """Decodes the outputs: `tokens` [N, T], padded, and `scores` [N]."""
        texts = [self.text(row) for row in outputs["tokens"]]
        return {"texts": texts, "scores": outputs["scores"].tolist() if request.scores else None}

    def request_for(self, examples: Arrays, model: str) -> dict[str, Any]:
        texts = [self.text(row) for row in examples["source"]]
        return {"model": model, "text": texts[0] if len(texts) == 1 else texts}

    def example_inputs(self, batch: int) -> Arrays:
        texts = [self.opening[row % len(self.opening)] for row in range(batch)]
        return {"source": self._tokens(texts)}

    def examples_for(self, signature: Signature, batch: int) -> Arrays:
        source = self.example_inputs(batch)
        if signature == ENCODER:
            return source
        layers, heads, width = self.cache_shape
        random = np.random.default_rng(0)

        def cache(length: int) -> NDArray[np.float32]:
            return random.standard_normal((batch, layers, heads, length, width), dtype=np.float32)

        places, past, written = source["source"].shape[1], 5, 3
        memory = {name: cache(places) for name in ENCODER.outputs}
        tokens = random.integers(0, self.vocabulary, (batch, written))
        return {"tokens": tokens, **source, **memory, "past_keys": cache(past), "past_values": cache(past)}

    def varying_axes(self) -> dict[str, Axis]:
        memory, past = Axis(3, "source_length"), Axis(3, "past_length", least=0)
        return {
            "source": Axis(1, "source_length"),
            "memory_keys": memory,
            "memory_values": memory,
            "tokens": Axis(1, "token_length"),
            "past_keys": past,
            "past_values": past,
        }

    def evaluate(self, run: Run, split: Arrays) -> dict[str, float]:
        """Returns `exact`: the share of texts written exactly as the targets.

        Other metrics need libraries that only training has.
        """
        written = self.answers(run, split["source"])
        right = [text == self.text(row) for text, row in zip(written, split["target"], strict=True)]
        return {"exact": float(np.mean(right))}

    def answers(self, run: Run, source: Tokens, beams: int = BEAMS) -> list[str]:
        """Returns the answers to many sources [N, S]."""
        return [self.text(tokens) for tokens in Transformation(self, run, source, beams).finish()["tokens"]]

    def lengths(self, split: Arrays) -> NDArray[np.int64]:
        return np.asarray((split["source"] != PADDING).sum(axis=1) + (split["target"] != PADDING).sum(axis=1))

    def transcripts(self, run: Run, split: Arrays) -> Tokens:
        places = np.linspace(0, len(split["source"]) - 1, TRANSCRIPTS).astype(np.int64)
        written: Tokens = Transformation(self, run, split["source"][places], beams=1).finish()["tokens"]
        return written

    def baseline(self, train: Arrays) -> dict[str, Any]:
        source = train["source"]
        return {
            TOKEN: distribution(source[source != PADDING]),
            LENGTH: distribution((source != PADDING).sum(axis=1)),
        }

    def observed_names(self) -> tuple[str, ...]:
        return TOKEN, LENGTH

    def observed(self, asked: NDArray[Any]) -> NDArray[Any]:
        tokens = observed_tokens(asked, PADDING)
        length = np.full_like(tokens, np.nan)
        length[:, 0] = (asked != PADDING).sum(axis=1)
        return np.stack([tokens, length], axis=1)

    def text(self, tokens: Tokens) -> str:
        """Returns the text of tokens [T], without begin, end and padding tokens."""
        return str(self.codec.decode(tokens.tolist(), skip_special_tokens=True))

    def _tokens(self, texts: list[str], *before: int) -> Tokens:
        """Returns padded tokens [N, T]: `before`, the text and the end token in each row."""
        return _filled(self._rows(texts, *before))

    def _rows(self, texts: list[str], *before: int) -> list[list[int]]:
        return [[*before, *line.ids, END] for line in self.codec.encode_batch_fast(texts)]

    def _too_long(self, request: TransformTextRequest, place: int, tokens: str) -> InvalidInput:
        named = f"text[{place}]" if isinstance(request.text, list) else "text"
        return InvalidInput(f"{named} has {tokens} tokens; at most {self.max_source - 1} are read")


class Transformation(Generation):
    """Answers many texts in batches of similar length; the pieces that it yields are empty.

    An empty text gets an empty answer, without a run.
    """

    def __init__(
        self, task: SequenceToSequence, run: Run, source: Tokens, beams: int, longest: int | None = None
    ) -> None:
        """Prepares answers to `source` [N, S], padded.

        Answers have at most `longest` tokens, and never more than the task's maximum.
        """
        self._task, self._run, self._source = task, run, source
        self.beams = beams
        self.rows = len(source)
        self.longest = task.max_target if longest is None else min(longest, task.max_target)
        self._best = [Hypothesis(np.zeros(0, np.int64), 0.0)] * len(source)
        lengths = (source != PADDING).sum(axis=1)
        order = np.argsort(lengths, kind="stable")
        asked = order[source[order, 0] != END]
        at_once = max(1, ROWS_AT_ONCE // beams)
        self._waiting = [asked[start : start + at_once] for start in range(0, len(asked), at_once)]
        self._batch: _Batch | None = None

    @classmethod
    def together(cls, parts: Sequence[Self], run: Run) -> Self:
        """Joins transformations, which must have equal beams and maximum lengths, into one; see `share`."""
        rows = [row.tolist() for part in parts for row in part._source]
        return cls(parts[0]._task, run, _filled(rows), parts[0].beams, parts[0].longest)

    def share(self, parts: Sequence[Self]) -> None:
        """Gives each of the joined transformations the answers to its texts."""
        end = 0
        for part in parts:
            start, end = end, end + part.rows
            part._best = self._best[start:end]

    @property
    def inputs(self) -> Arrays:
        return {"source": self._source}

    @property
    def outputs(self) -> Arrays:
        return {
            "tokens": _filled([hypothesis.tokens.tolist() for hypothesis in self._best]),
            "scores": np.array([hypothesis.score for hypothesis in self._best]),
        }

    def finish(self) -> Arrays:
        """Writes all answers and returns the outputs."""
        for _ in self:
            pass
        return self.outputs

    def __next__(self) -> str:
        if self._batch is None:
            if not self._waiting:
                raise StopIteration
            source = _trimmed(self._source[self._waiting[0]])
            self._batch = _Batch(self._task, self._run, source, self.beams, self.longest)
        else:
            self._batch.step(self._run)
            if self._batch.search.done:
                for row, hypothesis in zip(self._waiting.pop(0), self._batch.search.best(), strict=True):
                    self._best[row] = hypothesis
                self._batch = None
        return ""


class _Batch:
    """Texts that were encoded together and are answered one token per step."""

    def __init__(self, task: SequenceToSequence, run: Run, source: Tokens, beams: int, longest: int) -> None:
        texts = len(source)
        layers, heads, width = task.cache_shape
        nothing = np.zeros((texts, layers, heads, 0, width), np.float32)
        self.search = BeamSearch(texts, beams, END, longest, task.no_repeat_ngram_size)
        self._memory = {"source": source, **run({"source": source})}
        self._past = {"past_keys": nothing, "past_values": nothing}
        self._tokens = np.full(texts, BEGIN)

    def step(self, run: Run) -> None:
        """Adds a token to each row."""
        outputs = run({"tokens": self._tokens[:, None], **self._memory, **self._past})
        logits = outputs["logits"][:, -1]
        logits[:, [PADDING, BEGIN]] = -np.inf
        rows, self._tokens = self.search.step(logits)
        self._past = {"past_keys": outputs["keys"][rows], "past_values": outputs["values"][rows]}
        if len(rows) != len(logits):  # otherwise each row continues a row of the same text
            self._memory = {name: array[rows] for name, array in self._memory.items()}


def _texts(column: NDArray[np.bytes_]) -> list[str]:
    return [text.decode("utf-8") for text in column.tolist()]


def _filled(rows: list[list[int]]) -> Tokens:
    """Returns rows of tokens padded to the longest: [N, longest]."""
    filled = np.full((len(rows), max(map(len, rows))), PADDING, np.int64)
    for place, row in zip(filled, rows, strict=True):
        place[: len(row)] = row
    return filled


def _trimmed(tokens: Tokens) -> Tokens:
    """Returns tokens without the columns at the end that hold only padding."""
    return tokens[:, : int((tokens != PADDING).sum(axis=1).max())]
