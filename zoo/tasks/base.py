"""The task contract: what a model's numbers mean.

A task turns a request into the arrays that a graph takes and the graph's arrays into an answer, and
measures any callable that runs such a graph. Training and serving share it, so they cannot disagree.
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
"""Whatever executes a graph: an ONNX Runtime session, the serving engine, a torch module in tests.

Of a kind with several graphs, the one that takes inputs of these names.
"""

Draw = Callable[[Any, Any, Arrays, Arrays], bytes]
"""A PNG file of a task, a request, and the graph's inputs and outputs for it."""

Alike = Callable[[Any, Arrays, Any, Arrays], NDArray[np.bool_]]
"""Of a task, its outputs, and another version's task and outputs for the same inputs: a truth an example."""

MAX_BATCH = 4096  # rows or images in one request
MOST_ROWS, NUMBERS_AT_ONCE = 1024, 1 << 18  # in one run, where there are many to be run
MAX_NAME = 128  # characters in a model's name


@dataclass(frozen=True)
class Schema:
    """What a data set's columns mean; each kind of task reads what it needs."""

    feature_names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    target: str = ""
    unit: str = ""
    every: int = 1
    """Time between two steps of a series, in units of `period`."""
    period: str = ""
    """numpy's code of a unit of time, such as h; empty where the steps have no times."""
    season: int = 1
    """Steps after which a series is most alike."""
    metric: str = ""
    """What answers are ranked by, where a kind leaves a choice: bleu, rouge_l or exact."""
    vocabulary: int = 0
    """Tokens of a byte-pair encoding of texts; 0 where each character is one."""


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
    """Name of the length: axes of the same name are equally long."""
    multiple: int = 1
    """What the length is a multiple of."""
    least: int = 1


class Request(BaseModel):
    """What every prediction request has: the model's registered name, or its data set's."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    files: ClassVar[tuple[str, ...]] = ()
    """Fields that a multipart form may carry as files, one or several; base64 in JSON."""
    max_lists: ClassVar[int] = 1024
    """Lists and objects that a request holds at most, brackets and braces in its texts among them."""
    max_lists_per_digit: ClassVar[int] = 0
    """Lists and objects that it may hold besides, for each digit: a number may be alone in lists of lists."""

    model: Annotated[str, Field(min_length=1, max_length=MAX_NAME, description="A name from GET /models.")]

    _without_nulls = model_validator(mode="before")(without_nulls)

    @property
    def streamed(self) -> bool:
        """Whether the answer is to be sent in pieces, as they are written."""
        return False

    def without_inputs(self) -> Self:
        """Copy without what only `Task.encode` reads; the request itself where that is little."""
        return self


class Lineage(BaseModel):
    """Which model answered."""

    model: Annotated[str, Field(description="Registered model, never the data set's alias.")]
    version: Annotated[str, Field(pattern=r"^\d+$", examples=["3"])]
    run_id: Annotated[str, Field(description="MLflow run that trained it.")]
    digest: Annotated[str, Field(description="SHA-256 of the bundle's manifest.")]
    provider: Annotated[str, Field(description="ONNX Runtime execution provider.")]


class Response(BaseModel):
    """What every JSON answer has."""

    lineage: Lineage


class Generation(Iterator[str], ABC):
    """An answer that takes many runs: each item is the text that the next few of them added, maybe none."""

    rows: int = 1
    """Texts that are answered."""

    @property
    @abstractmethod
    def inputs(self) -> Arrays:
        """What was asked, as `Task.encode` gives it."""

    @property
    @abstractmethod
    def outputs(self) -> Arrays:
        """What `Task.decode` reads, once there are no more items."""


def completed(generation: Generation) -> Arrays:
    """The outputs of a generation that is run to its end."""
    for _ in generation:
        pass
    return generation.outputs


Generate = Callable[[Any, Run, Any], Generation]
"""Begins the answer of a task, by a run, to a request."""


class Task(BaseModel, ABC):
    """A kind of task with its fitted state. Subclasses are final and add the field `kind`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: ClassVar[str]
    """Path of the typed HTTP endpoint."""
    payload: ClassVar[str | None]
    """Request field that takes a list of inputs; none where there is nothing to send."""
    primary_metric: ClassVar[str]
    """The metric by which versions are ranked."""
    higher_is_better: ClassVar[bool]
    request_type: ClassVar[type[Request]]
    response_type: ClassVar[type[Response]]
    inputs: ClassVar[tuple[str, ...]]
    """Names of the inputs of the graph, or of that which reads a request."""
    outputs: ClassVar[tuple[str, ...]]
    """Names of its outputs."""

    max_batch: ClassVar[int] = MAX_BATCH
    """Rows, images or texts of one request at most."""
    names_data_sets: ClassVar[bool] = True
    """Whether a data set's name may stand for a model of this kind."""
    picture: ClassVar[Draw | None] = None
    """A method that draws the answer, of a kind whose answers are images."""
    generate: ClassVar[Generate | None] = None
    """A method that begins the answer, of a kind whose answers take many runs."""
    alike: ClassVar[Alike | None] = None
    """A method that compares the answers of two versions, of a kind where each input has one right answer."""
    documents: ClassVar[tuple[str, ...]] = ()
    """Fields of JSON text that a bundle keeps in files of their own, `<field>.json`."""

    @classmethod
    @abstractmethod
    def fit(cls, train: Arrays, schema: Schema) -> Self:
        """Fits scaling, labels and the like on the training split alone."""

    def examples(self, split: Arrays) -> Arrays:
        """Inputs and targets made of a data set's raw arrays; most kinds take them as they are."""
        return split

    def calibrated(self, run: Run, held_out: Arrays) -> Self:
        """With what can be fitted only to a trained model's answers, on the validation split."""
        return self

    @abstractmethod
    def encode(self, request: Any) -> Arrays:
        """Graph inputs for a request of `request_type`; `InvalidInput` where it does not fit."""

    @abstractmethod
    def decode(self, request: Any, outputs: Arrays) -> dict[str, Any]:
        """The answer, without its lineage, as plain Python values."""

    def answer(self, run: Run, request: Any) -> dict[str, Any]:
        """What `decode` makes of all the runs that a request takes."""
        if self.generate is None:
            return self.decode(request, run(self.encode(request)))
        return self.decode(request, completed(self.generate(run, request)))

    @abstractmethod
    def request_for(self, examples: Arrays, model: str) -> dict[str, Any]:
        """The inverse of `encode`: a JSON request that asks for these examples."""

    @abstractmethod
    def example_inputs(self, batch: int) -> Arrays:
        """Valid graph inputs of the given batch size, the same at every call."""

    def signatures(self) -> tuple[Signature, ...]:
        """The graphs that a model has, nearly always one."""
        return (Signature("model", self.inputs, self.outputs),)

    def examples_for(self, signature: Signature, batch: int) -> Arrays:
        """Valid inputs of one of the graphs, the same at every call."""
        return self.example_inputs(batch)

    def varying_axes(self) -> dict[str, Axis]:
        """Axes of any length, other than the batch's, of inputs that have one."""
        return {}

    def choices(self) -> dict[str, int]:
        """Inputs whose values are indices, and the number of what they choose from."""
        return {}

    @abstractmethod
    def evaluate(self, run: Run, split: Arrays) -> dict[str, float]:
        """Metrics of a run over a split, `primary_metric` among them."""

    def lengths(self, split: Arrays) -> NDArray[np.int64] | None:
        """How long each example is [N], where they are filled up to one length: like ones share a batch."""
        return None

    def transcripts(self, run: Run, split: Arrays) -> NDArray[np.int64] | None:
        """Tokens [N, T] that greedy decoding gives for N of a split's examples; None of one-shot kinds."""
        return None

    @abstractmethod
    def baseline(self, train: Arrays) -> dict[str, Any]:
        """Distributions of the training inputs by name, against which drift is measured while serving."""

    def observed_names(self) -> tuple[str, ...]:
        """What `observed` gives, in the words of the baseline; nothing of kinds whose inputs cannot drift."""
        return ()

    def observed(self, asked: NDArray[Any]) -> NDArray[Any]:
        """What is compared with the baseline of the first of the graph's inputs, with its rows [N].

        [N, F, P]: for each of F names P numbers, NaN where there is none; at most MOST_NUMBERS a row.
        """
        raise NotImplementedError

    def agrees(self, answer: dict[str, Any], expected: dict[str, Any]) -> bool:
        """Whether an answer is the expected one but for the rounding of another machine or provider."""
        return agree(answer, expected)

    @classmethod
    def better(cls, value: float, than: float) -> bool:
        """Whether a value of the primary metric strictly beats another."""
        return value > than if cls.higher_is_better else value < than


def run_in_batches(run: Run, inputs: Arrays, batch: int | None = None) -> Arrays:
    """Runs [N, ...] inputs in slices of `batch` rows, or of `rows_at_once`, and joins the outputs."""
    rows = len(next(iter(inputs.values())))
    size = batch or rows_at_once(array.shape for array in inputs.values())
    parts = [run({name: a[i : i + size] for name, a in inputs.items()}) for i in range(0, rows, size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def rows_at_once(shapes: Iterable[tuple[int, ...]]) -> int:
    """How many rows of inputs of these shapes [N, ...] a network takes without filling the memory.

    What it computes on the way may be many hundred times as large: EfficientNet enlarges its input first.
    """
    largest = max(math.prod(shape[1:]) for shape in shapes)
    return max(1, min(MOST_ROWS, NUMBERS_AT_ONCE // largest))
