"""Immutable snapshot of what is served at one moment, so that each answer comes from a single version."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, Field

from serving.drift import Drift
from serving.engine import LoadedModel
from serving.source import Listing, Version
from zoo.bundle import Manifest
from zoo.errors import BundleError, NotFound
from zoo.tasks import TASKS, Task
from zoo.tasks.base import Lineage
from zoo.version import CHAMPION, ChallengerMode

# Data types of the Open Inference Protocol by ONNX Runtime's names.
DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class Tensor(BaseModel):
    """Input or output of the graph."""

    name: str
    datatype: str
    shape: Annotated[list[int], Field(description="The batch axis first; -1 where the size is free.")]


class VersionEntry(BaseModel):
    """Registered version of a model."""

    version: str
    aliases: list[str]
    state: Annotated[
        Literal["serving", "available", "refused"],
        Field(description="Answers to the model's name; passed its gate; failed its gate or its checks."),
    ]
    reason: str
    metrics: dict[str, float]


class ModelEntry(BaseModel):
    """Name that answers requests: a registered model's or a data set's."""

    name: str
    kind: str
    dataset: str
    architecture: str
    alias_of: Annotated[str | None, Field(description="The model that answers to a data set's name.")]
    metrics: dict[str, float]
    primary_metric: str
    endpoint: str
    example_request: Annotated[dict[str, Any], Field(description="A request body that the endpoint accepts.")]
    lineage: Lineage


class Execution(BaseModel):
    """Execution mode of a model, from the times that its warm-up measured."""

    mode: Annotated[
        Literal["inline", "batched", "sliced"],
        Field(description="On the event loop; in a thread, in batches; or in time slices, for texts."),
    ]
    row_seconds: Annotated[
        float | None, Field(description="Seconds for a batch of one row; null for models that write texts.")
    ]
    max_batch_rows: Annotated[
        int | None, Field(description="Maximum rows of one batch; null for models that write texts.")
    ]


class ModelDetails(ModelEntry):
    """Entry of a model with its versions, tensors, execution, card and drift."""

    versions: list[VersionEntry]
    inputs: list[Tensor]
    outputs: list[Tensor]
    execution: Execution
    card: Annotated[str, Field(description="The model card, Markdown.")]
    drift: Annotated[
        Drift | None, Field(description="Drift of the recent inputs; null if the bundle has no baseline.")
    ] = None


class ModelList(BaseModel):
    """List of all names that answer requests."""

    models: list[ModelEntry]


@dataclass(frozen=True, eq=False)
class Served:
    """Loaded version that answers requests."""

    loaded: LoadedModel
    version: str
    challenge: "Challenge | None" = None
    """Challenge to this version if it is a champion that has a challenger."""

    @property
    def manifest(self) -> Manifest:
        """Manifest of the bundle."""
        return self.loaded.bundle.manifest

    @property
    def task(self) -> Task:
        """Fitted task of the bundle."""
        return self.loaded.bundle.task

    @cached_property
    def lineage(self) -> Lineage:
        """Origin of every answer: model, version, run, digest and execution provider."""
        return Lineage(
            model=self.manifest.model,
            version=self.version,
            run_id=self.manifest.run_id,
            digest=self.loaded.bundle.digest,
            provider=self.loaded.graph.provider,
        )

    @cached_property
    def lineage_json(self) -> orjson.Fragment:
        """Lineage as JSON, rendered once."""
        return orjson.Fragment(self.lineage.model_dump_json())

    @cached_property
    def lineage_headers(self) -> dict[str, str]:
        """Lineage as HTTP headers, for answers that are not JSON."""
        return {lineage_header(name): value for name, value in self.lineage}

    def entry(self, name: str) -> ModelEntry:
        """Returns the entry under the model's own name or a data set's."""
        return ModelEntry(
            name=name,
            kind=self.manifest.kind,
            dataset=self.manifest.dataset,
            architecture=self.manifest.architecture,
            alias_of=None if name == self.manifest.model else self.manifest.model,
            metrics=self.manifest.metrics,
            primary_metric=self.task.primary_metric,
            endpoint=self.task.endpoint,
            example_request={**self.loaded.bundle.golden.request, "model": name},
            lineage=self.lineage,
        )

    def details(self, entry: ModelEntry, versions: list[VersionEntry]) -> ModelDetails:
        """Returns the entry with the details of the model and these versions."""
        return ModelDetails(
            **dict(entry),
            versions=versions,
            inputs=[tensor(*i) for i in self.loaded.graph.inputs],
            outputs=[tensor(*o) for o in self.loaded.graph.outputs],
            execution=self._execution(),
            card=self.loaded.card,
        )

    def _execution(self) -> Execution:
        loaded = self.loaded
        if loaded.mode == "sliced":
            return Execution(mode="sliced", row_seconds=None, max_batch_rows=None)
        return Execution(mode=loaded.mode, row_seconds=loaded.row_seconds, max_batch_rows=loaded.batch_rows)


@dataclass(frozen=True)
class Challenge:
    """Challenger that competes with a champion, and the mode in which it does."""

    challenger: Served
    mode: ChallengerMode


class Catalogue:
    """Names that answer requests, with their listings rendered once."""

    def __init__(
        self,
        served: Iterable[Served],
        listing: Listing,
        versions: Mapping[str, list[VersionEntry]],
    ) -> None:
        """`served` are the loaded champions; `versions` holds the entries of the versions in `listing`."""
        self.champions = tuple(served)
        self._served = {s.manifest.model: s for s in self.champions}
        for data_set, model in _data_set_names(self._served, listing.data_sets).items():
            self._served.setdefault(data_set, self._served[model])
        self._listing = listing
        self.versions = versions
        """Version entries by registered model, newest first."""
        self.entries = [self._served[name].entry(name) for name in sorted(self._served)]
        self.list_json = ModelList(models=self.entries).model_dump_json().encode()
        self._details = {
            e.name: self._served[e.name].details(e, versions.get(e.lineage.model, [])).model_dump(mode="json")
            for e in self.entries
        }

    def find(self, name: str) -> Served:
        """Returns the version that answers to a name. Raises `NotFound` with the reason if there is none."""
        try:
            return self._served[name]
        except KeyError:
            raise self._nothing(name) from None

    def version(self, name: str, wanted: str) -> Served | Version:
        """Returns the version of a name's model with a number or an alias; a `Version` is not loaded yet.

        Raises `NotFound` with the reason if none may answer, such as a failed gate.
        """
        if wanted == CHAMPION:  # the version that answers, even while a newer champion is refused
            return self.find(name)
        served, model = self._served.get(name), self.model(name)
        if model not in self._listing.versions:
            raise self._nothing(name)
        for version in self._listing.versions[model]:
            if wanted == version.number or wanted in version.aliases:
                if served is not None and served.version == version.number:
                    return served
                if not version.passed:
                    raise NotFound(f"version {version.number} of {model!r} is refused: {version.reason}")
                return version
        raise NotFound(f"{model!r} has no such version or alias; GET /models/{model} lists those that it has")

    def answering(self, name: str) -> list[str]:
        """Returns the numbers of a name's usable versions, oldest first. Raises `NotFound` if unknown."""
        entries = self.versions.get(self.model(name))
        if entries is None:
            raise self._nothing(name)
        return [entry.version for entry in reversed(entries) if entry.state != "refused"]

    def model(self, name: str) -> str:
        """Returns the registered model behind a name, which may be a data set's."""
        served = self._served.get(name)
        return name if served is None else served.manifest.model

    def details_json(self, name: str) -> bytes:
        """Returns the answer to `GET /models/{name}`. Raises `NotFound` as `find` does."""
        served = self.find(name)
        drift = served.loaded.asked.drift()
        return orjson.dumps(self._details[name] | {"drift": None if drift is None else drift.model_dump()})

    def drift(self) -> Iterator[tuple[Served, Drift]]:
        """Yields the drift of each version that answers to its model's name, if its bundle has a baseline."""
        for name, served in self._served.items():
            if name == served.manifest.model and (drift := served.loaded.asked.drift()) is not None:
                yield served, drift

    def _nothing(self, name: str) -> NotFound:
        versions = self.versions.get(name)
        if not versions:
            return NotFound("no model answers to this name; GET /models lists the names that do")
        champion = next((version for version in versions if CHAMPION in version.aliases), None)
        shown, what = (versions[0], "newest") if champion is None else (champion, "champion")
        state = f"{shown.state}: {shown.reason}"
        return NotFound(f"no version of {name!r} is served; the {what}, {shown.version}, is {state}")


def lineage_header(name: str) -> str:
    """Returns the name of the header that carries a field of the lineage."""
    return f"X-Zoo-{name.replace('_', '-').title()}"


def _data_set_names(served: Mapping[str, Served], named: Mapping[str, str]) -> dict[str, str]:
    """Returns the model that answers to each data set's name: the one the source names, or else the best.

    Only models of one kind are considered for a data set, the first in the order of `TASKS`.
    """
    groups: dict[str, list[Served]] = {}
    for one in served.values():
        if one.task.names_data_sets:
            groups.setdefault(one.manifest.dataset, []).append(one)
    kinds = list(TASKS)
    names: dict[str, str] = {}
    for data_set, group in groups.items():
        own_kind = min((one.manifest.kind for one in group), key=kinds.index)
        of_kind = {one.manifest.model: one for one in group if one.manifest.kind == own_kind}
        choice = named.get(data_set)
        names[data_set] = choice if choice in of_kind else _best(of_kind)
    return names


def _best(served: Mapping[str, Served]) -> str:
    def rank(name: str) -> float:
        task = served[name].task
        value = served[name].manifest.metrics.get(task.primary_metric, float("nan"))
        badness = -value if task.higher_is_better else value
        return badness if badness == badness else float("inf")  # noqa: PLR0124 - not a number comes last

    return min(sorted(served), key=rank)


def tensor(name: str, onnx_type: str, shape: list[Any]) -> Tensor:
    """Converts ONNX Runtime's description of a tensor. Raises `BundleError` if V2 lacks its type."""
    if onnx_type not in DATATYPES:
        raise BundleError(f"the graph has an input or output of the type {onnx_type[:64]}")
    sizes = [size if isinstance(size, int) else -1 for size in shape]
    return Tensor(name=name, datatype=DATATYPES[onnx_type], shape=sizes)
