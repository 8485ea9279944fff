"""The task contract: the meaning of a model's inputs and outputs.

A task converts a request to the arrays that a graph takes and the graph's arrays to an answer, and evaluates
any callable that runs such a graph. Training and serving share it, so they cannot disagree.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from zoo.tasks.agreement import agree
from zoo.tasks.nulls import without_nulls

Arrays = dict[str, NDArray[Any]]
"""Arrays by name. A split holds a graph's inputs and `target`; a run takes inputs and returns outputs."""

Run = Callable[[Arrays], Arrays]
"""Callable that executes a graph: an ONNX Runtime session, the serving engine, a torch module in tests.

For a kind with several graphs, it executes the one whose input names match.
"""

Draw = Callable[[Any, Any, Arrays, Arrays], bytes]
"""Function of a task, a request, and the graph's inputs and outputs for it; returns a PNG file."""

Alike = Callable[[Any, Arrays, Any, Arrays], NDArray[np.bool_]]
"""Function of a task, its outputs, another version's task, and that one's outputs for the same inputs.

Returns a boolean for each example: True if the two answers are alike.
"""

MAX_BATCH = 4096  # rows or images in one request
MOST_ROWS, NUMBERS_AT_ONCE = 1024, 1 << 18  # limits of one run: rows, and numbers in its largest input
MAX_NAME = 128  # characters in a model's name


@dataclass(frozen=True)
class Schema:
    """Description of a data set's columns; each kind of task reads the fields it needs."""

    feature_names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    target: str = ""
    unit: str = ""
    every: int = 1
    """Time between two steps of a series, in units of `period`."""
    period: str = ""
    """numpy's code of a unit of time, such as h; empty if the steps have no times."""
    season: int = 1
    """Season length in steps: the lag at which a series is most similar to itself."""
    metric: str = ""
    """Metric that ranks versions, for kinds that leave a choice: bleu, rouge_l or exact."""
    vocabulary: int = 0
    """Vocabulary size of the byte-pair encoding of texts; 0 for one token per character."""


@dataclass(frozen=True)
class Signature:
    """A graph: its file, `<name>.onnx`, and the names of its inputs and outputs."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Axis:
    """An axis of an input that may have any length."""

    place: int
    length: str
    """Name of the length: axes with the same name have the same length."""
    multiple: int = 1
    """Number that the length must be a multiple of."""
    least: int = 1


class Request(BaseModel):
    """Base of all prediction requests: names a model by its registered name or its data set's."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    files: ClassVar[tuple[str, ...]] = ()
    """Fields that a multipart form may carry as one or several files; in JSON they are base64."""
    max_lists: ClassVar[int] = 1024
    """Maximum number of lists and objects in a request, counting brackets and braces inside its texts."""
    max_lists_per_digit: ClassVar[int] = 0
    """Lists and objects allowed in addition per digit, as a single number may be nested in several lists."""

    model: Annotated[str, Field(min_length=1, max_length=MAX_NAME, description="A name from GET /models.")]

    _without_nulls = model_validator(mode="before")(without_nulls)

    @property
    def streamed(self) -> bool:
        """True if the answer is to be streamed, in pieces, while it is written."""
        return False

    def without_inputs(self) -> Self:
        """Returns a copy without fields that only `Task.encode` reads, or the request if they are small."""
        return self


class Lineage(BaseModel):
    """The model that answered."""

    model: Annotated[str, Field(description="Registered model, never the data set's alias.")]
    version: Annotated[str, Field(pattern=r"^\d+$", examples=["3"])]
    run_id: Annotated[str, Field(description="MLflow run that trained it.")]
    digest: Annotated[str, Field(description="SHA-256 of the bundle's manifest.")]
    provider: Annotated[str, Field(description="ONNX Runtime execution provider.")]


class Response(BaseModel):
    """Base of all JSON answers."""

    lineage: Lineage


class Generation(Iterator[str], ABC):
    """Answer that takes many runs, as an iterator of pieces of text.

    Each item is the text that the next few runs added; it may be empty.
    """

    rows: int = 1
    """Number of texts to answer."""

    @property
    @abstractmethod
    def inputs(self) -> Arrays:
        """Graph inputs of the request, as `Task.encode` returns them."""

    @property
    @abstractmethod
    def outputs(self) -> Arrays:
        """Outputs for `Task.decode`, complete once the iterator is exhausted."""


def completed(generation: Generation) -> Arrays:
    """Runs a generation to its end and returns its outputs."""
    for _ in generation:
        pass
    return generation.outputs


Generate = Callable[[Any, Run, Any], Generation]
"""Function of a task, a run and a request; begins the answer."""


class Task(BaseModel, ABC):
    """A kind of task with its fitted state. Subclasses are final and add the field `kind`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: ClassVar[str]
    """Path of the typed HTTP endpoint."""
    payload: ClassVar[str | None]
    """Request field that takes a list of inputs; None if a request has no inputs."""
    primary_metric: ClassVar[str]
    """The metric by which versions are ranked."""
    higher_is_better: ClassVar[bool]
    request_type: ClassVar[type[Request]]
    response_type: ClassVar[type[Response]]
    inputs: ClassVar[tuple[str, ...]]
    """Names of the graph's inputs; for a kind with several graphs, of the one that reads a request."""
    outputs: ClassVar[tuple[str, ...]]
    """Names of the same graph's outputs."""

    max_batch: ClassVar[int] = MAX_BATCH
    """Maximum number of rows, images or texts in one request."""
    names_data_sets: ClassVar[bool] = True
    """True if a data set's name may stand for a model of this kind."""
    picture: ClassVar[Draw | None] = None
    """Method that draws the answer, for kinds whose answers are images."""
    generate: ClassVar[Generate | None] = None
    """Method that begins the answer, for kinds whose answers take many runs."""
    alike: ClassVar[Alike | None] = None
    """Method that compares the answers of two versions, for kinds where each input has one right answer."""
    documents: ClassVar[tuple[str, ...]] = ()
    """Names of text fields that a bundle keeps in files of their own, `<field>.json`."""

    @classmethod
    @abstractmethod
    def fit(cls, train: Arrays, schema: Schema) -> Self:
        """Fits the task's state, such as scaling and labels, to the training split alone."""

    def examples(self, split: Arrays) -> Arrays:
        """Converts a data set's raw arrays to inputs and targets; most kinds return them unchanged."""
        return split

    def calibrated(self, run: Run, held_out: Arrays) -> Self:
        """Returns the task with the state fitted to a trained model's answers on the validation split."""
        return self

    @abstractmethod
    def encode(self, request: Any) -> Arrays:
        """Returns graph inputs for a request of `request_type`; raises `InvalidInput` if it does not fit."""

    @abstractmethod
    def decode(self, request: Any, outputs: Arrays) -> dict[str, Any]:
        """Returns the answer, without its lineage, as plain Python values."""

    def answer(self, run: Run, request: Any) -> dict[str, Any]:
        """Executes all runs that a request takes and returns the decoded answer."""
        if self.generate is None:
            return self.decode(request, run(self.encode(request)))
        return self.decode(request, completed(self.generate(run, request)))

    @abstractmethod
    def request_for(self, examples: Arrays, model: str) -> dict[str, Any]:
        """Returns a JSON request that asks for these examples: the inverse of `encode`."""

    @abstractmethod
    def example_inputs(self, batch: int) -> Arrays:
        """Returns valid graph inputs of the given batch size, the same at every call."""

    def signatures(self) -> tuple[Signature, ...]:
        """Returns the signatures of a model's graphs; most kinds have one."""
        return (Signature("model", self.inputs, self.outputs),)

    def examples_for(self, signature: Signature, batch: int) -> Arrays:
        """Returns valid inputs of one of the graphs, the same at every call."""
        return self.example_inputs(batch)

    def varying_axes(self) -> dict[str, Axis]:
        """Returns the axes of any length, other than the batch axis, by input name."""
        return {}

    def choices(self) -> dict[str, int]:
        """Returns the number of options for each input whose values are indices, by input name."""
        return {}

    @abstractmethod
    def evaluate(self, run: Run, split: Arrays) -> dict[str, float]:
        """Returns the metrics of a run over a split, including `primary_metric`."""

    def lengths(self, split: Arrays) -> NDArray[np.int64] | None:
        """Returns the length [N] of each example if examples are padded to one length, else None.

        Examples of similar length then share a batch.
        """
        return None

    def transcripts(self, run: Run, split: Arrays) -> NDArray[np.int64] | None:
        """Returns tokens [N, T] of greedy decoding for N of a split's examples; None for one-shot kinds."""
        return None

    @abstractmethod
    def baseline(self, train: Arrays) -> dict[str, Any]:
        """Returns distributions of the training inputs by name; serving measures drift against them."""

    def observed_names(self) -> tuple[str, ...]:
        """Returns the names of the values in `observed`, as in the baseline; empty if inputs cannot drift."""
        return ()

    def observed(self, asked: NDArray[Any]) -> NDArray[Any]:
        """Returns the values to compare with the baseline, for the N rows of the graph's first input.

        Shape [N, F, P]: P numbers for each of F names, NaN where there is none; at most MOST_NUMBERS per row.
        """
        raise NotImplementedError

    def agrees(self, answer: dict[str, Any], expected: dict[str, Any]) -> bool:
        """Returns True if an answer is the expected one, up to rounding on another machine or provider."""
        return agree(answer, expected)

    @classmethod
    def better(cls, value: float, than: float) -> bool:
        """Returns True if a value of the primary metric is strictly better than another."""
        return value > than if cls.higher_is_better else value < than


def run_in_batches(run: Run, inputs: Arrays, batch: int | None = None) -> Arrays:
    """Runs [N, ...] inputs in slices of `batch` rows, or of `rows_at_once`, and joins the outputs."""
    rows = len(next(iter(inputs.values())))
    size = batch or rows_at_once(array.shape for array in inputs.values())
    parts = [run({name: a[i : i + size] for name, a in inputs.items()}) for i in range(0, rows, size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def rows_at_once(shapes: Iterable[tuple[int, ...]]) -> int:
    """Returns how many rows of inputs [N, ...] a network takes at once without filling the memory.

    Its activations may be many hundred times as large as its input: EfficientNet enlarges its input first.
    """
    largest = max(math.prod(shape[1:]) for shape in shapes)
    return max(1, min(MOST_ROWS, NUMBERS_AT_ONCE // largest))
