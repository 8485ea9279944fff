"""A trained model on disk: all files needed to answer requests, and a recorded answer that proves it works.

A bundle is a directory:

    model.onnx     the graph: its inputs come from the task's decoder, its outputs go to the task's reader;
                   kinds with several graphs use other names, see `Task.signatures`
    task.json      the fitted task
    tokenizer.json its tokenizer, where there is text
    golden.json    a request, and the answer that this bundle gave to it when it was written
    baseline.json  statistics of the training inputs, against which drift is measured
    card.md        the model card
    manifest.json  the bundle's identity, and the SHA-256 of each file above

The SHA-256 of `manifest.json` is the bundle's digest. Files that the manifest does not name (for example
MLflow's own) are not part of the bundle. Nothing is ever unpickled. Only the bytes that were compared with
the manifest are used, so a file that is replaced afterwards has no effect.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from zoo.bundle_files import content, sha256, size
from zoo.errors import BundleError
from zoo.graph import Graph, GraphSet, open_graphs
from zoo.tasks import TASKS, Arrays, Operation, Run, Task, any_task

FileName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}\.[a-z]{1,16}$")]  # no path outside the directory
# Names are used in response headers and metric labels.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,199}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

Parsed = TypeVar("Parsed")

MANIFEST = "manifest.json"
MOST_BYTES = 8 << 30
"""Maximum size of a bundle in bytes: a graph has up to 2 GiB (protobuf's limit), a kind up to two graphs."""
MOST_DOCUMENT_BYTES = 64 << 20
"""Maximum size of each other file in bytes: the tokenizer of a vocabulary of 256,000 tokens has 34 MB."""
MOST_MANIFEST_BYTES = 1 << 20
MOST_FILES = 32


class Identity(BaseModel):
    """Identity of a bundle: its model, data, training run, and test metrics."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Name
    """Registered name, `<architecture>-<dataset>`."""
    architecture: Name
    dataset: Name
    kind: str
    run_id: Name
    """MLflow run that trained it."""
    data_digest: Sha256
    """SHA-256 of the raw data that it was trained and tested on."""
    parameters: int
    metrics: dict[str, float]
    """Test metrics, measured through the graph."""


class Manifest(Identity):
    """Identity of a bundle, with the SHA-256 of each of its files."""

    format: Literal[1] = 1
    files: Annotated[dict[FileName, Sha256], Field(max_length=MOST_FILES)]


class Golden(BaseModel):
    """Recorded request, and the answer that the bundle must reproduce."""

    request: dict[str, Any]
    answer: dict[str, Any]


class Distribution(BaseModel):
    """Histogram of a number over the training split."""

    edges: list[float]
    """Boundaries between the bins, ascending; a value equal to an edge belongs to the bin above."""
    shares: list[float]
    """Share of the rows in each bin; one more than edges."""


Baseline = dict[str, Distribution]
"""Distributions by the task's names of the observed numbers; a bundle of an older zoo may lack some."""
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
        """Paths of the ONNX files."""
        return [self.directory / f"{signature.name}.onnx" for signature in self.task.signatures()]

    @property
    def graph_path(self) -> Path:
        """Path of the ONNX file, for kinds with exactly one."""
        (path,) = self.graph_paths
        return path

    def read(self, name: str) -> bytes:
        """Returns the content of one of the bundle's files; `BundleError` if it differs from the manifest."""
        return _read(self.directory, name, self.manifest)

    def read_text(self, name: str) -> str:
        """Returns the text of one of the bundle's files; `BundleError` as in `read`, or if not UTF-8."""
        return _as_text(name, self.read(name))

    def open(self, device: str = "cpu", threads: int = 1) -> Graph | GraphSet:
        """Opens the graph or graphs; `BundleError` as in `read`, other errors as in `zoo.graph.Graph`."""
        return open_graphs((self.read(path.name) for path in self.graph_paths), device, threads)

    def replay(self, run: Run) -> None:
        """Sends the golden request to `run`; `BundleError` if the answer differs from the golden one."""
        answer = ask(self.task, run, self.golden.request)
        if not self.task.agrees(answer, self.golden.answer):
            raise BundleError(
                f"{self.manifest.model}: the golden request was answered {json.dumps(answer)[:200]} "
                f"instead of {json.dumps(self.golden.answer)[:200]}"
            )


def ask(task: Task, run: Run, request: dict[str, Any], operation: Operation | None = None) -> dict[str, Any]:
    """Returns the answer to a JSON request, as the service gives it except for the lineage.

    Without an operation, the main operation of the task's kind is used.
    """
    operation = Operation.main(type(task)) if operation is None else operation
    try:
        valid = operation.request_type.model_validate(request)
    except ValidationError as error:
        raise BundleError(f"the request does not fit {operation.request_type.__name__}") from error
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

    `graphs` maps the names of the signatures to ONNX bytes. `example` holds the graph inputs of the golden
    request, `train` the training split.
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
        for name, written in contents.items():
            (staging / name).write_bytes(written)
        digests = {name: hashlib.sha256(written).hexdigest() for name, written in contents.items()}
        manifest = Manifest(**identity.model_dump(), files=digests)
        (staging / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        staged = load(staging)
        staged.replay(staged.open())
        staging.chmod(0o755)
        staging.replace(directory)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return load(directory)


def digest_of(directory: Path) -> str:
    """Returns a bundle's digest; reads only the manifest, and raises `BundleError` if it cannot."""
    return hashlib.sha256(content(directory / MANIFEST, MOST_MANIFEST_BYTES)).hexdigest()


def size_of(directory: Path) -> int:
    """Returns the size of the bundle's files in bytes; `BundleError` if too large or not readable."""
    manifest = parse_manifest(content(directory / MANIFEST, MOST_MANIFEST_BYTES))
    total = sum(size(directory / name) for name in manifest.files)
    if total > MOST_BYTES:
        raise BundleError(f"the bundle has {total} bytes; at most {MOST_BYTES} are read")
    return total


def load(directory: Path) -> Bundle:
    """Reads a bundle and checks each file against the manifest; `BundleError` says what is wrong.

    The message may be shown to anyone; the underlying library error is its `__cause__`.
    """
    size_of(directory)
    raw = content(directory / MANIFEST, MOST_MANIFEST_BYTES)
    manifest = parse_manifest(raw)
    if manifest.kind not in TASKS:
        raise BundleError(f"there is no kind of task {manifest.kind[:64]!r}: the bundle is of a newer zoo")
    kind = TASKS[manifest.kind]
    needed = {"task.json", "golden.json", "baseline.json", "card.md"}
    _require(needed | {f"{name}.json" for name in kind.documents}, manifest)
    documents = {
        name: _read(directory, name, manifest) for name in manifest.files if not name.endswith(".onnx")
    }
    _as_text("card.md", documents["card.md"])
    task = _parsed("task.json", lambda: _task(documents, kind.documents))
    graphs = [f"{signature.name}.onnx" for signature in task.signatures()]
    _require(set(graphs), manifest)
    for name in manifest.files.keys() - documents.keys():
        _check(name, sha256(directory / name), manifest)
    golden = _parsed("golden.json", lambda: Golden.model_validate_json(documents["golden.json"]))
    baseline = _parsed("baseline.json", lambda: any_baseline.validate_json(documents["baseline.json"]))
    return Bundle(directory, hashlib.sha256(raw).hexdigest(), manifest, task, golden, baseline)


def parse_manifest(raw: bytes) -> Manifest:
    """Parses the content of a manifest file; `BundleError` names the fields that are wrong."""
    return _parsed(MANIFEST, lambda: Manifest.model_validate_json(raw))


def _parsed(name: str, parse: Callable[[], Parsed]) -> Parsed:
    try:
        return parse()
    except ValidationError as error:
        fields = sorted({_field(each["loc"]) for each in error.errors()})[:3]
        raise _malformed(f"{name} ({', '.join(fields)})" if any(fields) else name) from error
    except (ValueError, RecursionError) as error:  # from json, or from a text that is not UTF-8
        raise _malformed(name) from error


def _malformed(what: str) -> BundleError:
    return BundleError(f"the bundle is not a complete bundle: {what} is not as the zoo writes it")


def _field(place: tuple[str | int, ...]) -> str:
    """Returns the dotted name of the field in a pydantic error, up to the first key that the file chose."""
    names = takewhile(lambda part: re.fullmatch(r"[a-z0-9_]{1,32}", str(part)), place)
    return ".".join(map(str, names))


def _require(names: set[str], manifest: Manifest) -> None:
    if missing := names - set(manifest.files):
        raise BundleError(f"the manifest does not name {sorted(missing)}")


def _task(documents: Mapping[str, bytes], names: tuple[str, ...]) -> Task:
    """Returns the task in `task.json`, completed with the fields that are stored in separate files."""
    fields: dict[str, Any] = json.loads(documents["task.json"])
    for name in names:
        fields[name] = documents[f"{name}.json"].decode("utf-8")
    return any_task.validate_json(json.dumps(fields))


def _read(directory: Path, name: str, manifest: Manifest) -> bytes:
    """Returns the content of a file after comparing its SHA-256 with the manifest."""
    most = MOST_BYTES if name.endswith(".onnx") else MOST_DOCUMENT_BYTES
    read = content(directory / name, most)
    _check(name, hashlib.sha256(read).hexdigest(), manifest)
    return read


def _check(name: str, digest: str, manifest: Manifest) -> None:
    if digest != manifest.files[name]:
        raise BundleError(f"{name} is not the file that the manifest names: altered or cut short")


def _as_text(name: str, read: bytes) -> str:
    return _parsed(name, lambda: read.decode("utf-8"))
