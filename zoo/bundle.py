"""A trained model on disk: everything that is needed to answer requests, and the proof that it does.

A bundle is a directory:

    model.onnx     the graph: what a decoder yields in, what a reader understands out; several graphs have
                   other names, see `Task.signatures`
    task.json      the fitted task
    tokenizer.json its tokenizer, where there is text
    golden.json    a request, and the answer that this very bundle gave to it
    baseline.json  statistics of the training inputs, against which drift is measured
    card.md        the model card
    manifest.json  what it is, and the SHA-256 of each file above

The SHA-256 of `manifest.json` is the bundle's digest. Files that the manifest does not name (MLflow's
own, say) are not part of the bundle. Nothing is ever unpickled.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from zoo.errors import BundleError, ZooError
from zoo.graph import Graph, GraphSet, open_graphs
from zoo.tasks import TASKS, Arrays, Operation, Run, Task, any_task

FileName = Annotated[str, Field(pattern=r"^[a-z0-9_]+\.[a-z]+$")]  # nothing outside the directory


class Identity(BaseModel):
    """What a bundle says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """Registered name, `<architecture>-<dataset>`."""
    architecture: str
    dataset: str
    kind: str
    run_id: str
    """MLflow run that trained it."""
    data_digest: str
    """SHA-256 of the raw data that it was trained and tested on."""
    parameters: int
    metrics: dict[str, float]
    """Test metrics, measured through the graph."""


class Manifest(Identity):
    """The identity with the SHA-256 of each file."""

    format: Literal[1] = 1
    files: dict[FileName, str]


class Golden(BaseModel):
    """A request and the answer to it."""

    request: dict[str, Any]
    answer: dict[str, Any]


class Distribution(BaseModel):
    """How a number is distributed over the training split."""

    edges: list[float]
    """Between the bins, ascending; each belongs to the bin above."""
    shares: list[float]
    """Of the rows, of each bin; one more than edges."""


Baseline = dict[str, Distribution]
"""By the names that the task gives what it observes; a bundle of an older zoo may lack some."""
any_baseline: TypeAdapter[Baseline] = TypeAdapter(Baseline)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files agree with its manifest."""

    directory: Path
    digest: str
    manifest: Manifest
    task: Task
    golden: Golden
    baseline: Baseline

    @property
    def graph_paths(self) -> list[Path]:
        """The ONNX files."""
        return [self.directory / f"{signature.name}.onnx" for signature in self.task.signatures()]

    @property
    def graph_path(self) -> Path:
        """The ONNX file, of a kind that has one."""
        (path,) = self.graph_paths
        return path

    def read_text(self, name: str) -> str:
        """Text of one of the bundle's files."""
        return (self.directory / name).read_text(encoding="utf-8")

    def open(self, device: str = "cpu", threads: int = 1) -> Graph | GraphSet:
        """The graph or graphs, opened; see `zoo.graph.Graph` for errors."""
        return open_graphs(self.graph_paths, device, threads)

    def replay(self, run: Run) -> None:
        """Asks the golden request again; `BundleError` where the answer is another."""
        answer = ask(self.task, run, self.golden.request)
        if not self.task.agrees(answer, self.golden.answer):
            raise BundleError(
                f"{self.manifest.model}: the golden request was answered {json.dumps(answer)[:200]} "
                f"instead of {json.dumps(self.golden.answer)[:200]}"
            )


def ask(task: Task, run: Run, request: dict[str, Any], operation: Operation | None = None) -> dict[str, Any]:
    """The answer of a run to a JSON request, as the service gives it but for the lineage.

    Without an operation, the kind's own question is asked.
    """
    operation = Operation.main(type(task)) if operation is None else operation
    try:
        valid = operation.request_type.model_validate(request)
    except ValidationError as error:
        raise BundleError(f"the request does not fit {operation.request_type.__name__}: {error}") from error
    return operation.answer(task, run, valid)


def write(
    directory: Path,
    identity: Identity,
    task: Task,
    graphs: Mapping[str, bytes],
    example: Arrays,
    train: Arrays,
    card: str,
) -> Bundle:
    """Writes a bundle and returns it as loaded from disk; the directory appears only when complete.

    `graphs` are by the names of their signatures; `example` holds the graph inputs of the golden request,
    `train` the training split.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".bundle-", dir=directory.parent))
    try:
        request = task.request_for(example, identity.model)
        run = open_graphs(list(graphs.values()))
        golden = Golden(request=request, answer=ask(task, run, request))
        contents = {
            **{f"{name}.onnx": graph for name, graph in graphs.items()},
            "task.json": task.model_dump_json(indent=1, exclude=set(task.documents)).encode(),
            **{f"{name}.json": getattr(task, name).encode() for name in task.documents},
            "golden.json": golden.model_dump_json(indent=1).encode(),
            "baseline.json": json.dumps(task.baseline(train)).encode(),
            "card.md": card.encode(),
        }
        for name, content in contents.items():
            (staging / name).write_bytes(content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        manifest = Manifest(**identity.model_dump(), files=digests)
        (staging / "manifest.json").write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        written = load(staging)
        written.replay(written.open())
        staging.chmod(0o755)
        staging.replace(directory)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return load(directory)


def load(directory: Path) -> Bundle:
    """Reads a bundle and checks each file against the manifest; `BundleError` says what is wrong."""
    try:
        raw = (directory / "manifest.json").read_bytes()
        manifest = Manifest.model_validate_json(raw)
        for name, expected in manifest.files.items():
            if _sha256(directory / name) != expected:
                raise BundleError(f"{name} is not the file that the manifest names: altered or cut short")
        if manifest.kind not in TASKS:
            raise BundleError(f"there is no kind of task {manifest.kind!r}: the bundle is of a newer zoo")
        kind = TASKS[manifest.kind]
        needed = {"task.json", "golden.json", "baseline.json", "card.md"}
        needed |= {f"{name}.json" for name in kind.documents}
        _require(needed, manifest)
        task = _read_task(directory, kind.documents)
        _require({f"{signature.name}.onnx" for signature in task.signatures()}, manifest)
        golden = Golden.model_validate_json((directory / "golden.json").read_bytes())
        baseline = any_baseline.validate_json((directory / "baseline.json").read_bytes())
    except ZooError:
        raise
    except (OSError, ValueError) as error:  # pydantic's and json's are value errors
        raise BundleError(f"{directory.name} is not a complete bundle: {error}") from error
    return Bundle(directory, hashlib.sha256(raw).hexdigest(), manifest, task, golden, baseline)


def _require(names: set[str], manifest: Manifest) -> None:
    if missing := names - set(manifest.files):
        raise BundleError(f"the manifest does not name {sorted(missing)}")


def _read_task(directory: Path, documents: tuple[str, ...]) -> Task:
    """The task of `task.json`, with the fields that have files of their own."""
    fields: dict[str, Any] = json.loads((directory / "task.json").read_text(encoding="utf-8"))
    for name in documents:
        fields[name] = (directory / f"{name}.json").read_text(encoding="utf-8")
    return any_task.validate_json(json.dumps(fields))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
