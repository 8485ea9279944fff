"""The `zoo` command. Its help is made from the dataclasses below; each imports its dependencies when it runs.

Listings print a table, or with `--json` one JSON document on stdout; progress goes to stderr. Exit codes:
0 for success, 1 for an error that the message explains or a closed output pipe, 2 for a wrong command line,
130 for Ctrl-C.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from zoo.ask_command import Ask
from zoo.chat_command import Chat
from zoo.credentials import hide_credentials
from zoo.errors import BundleError, InvalidInput, NotFound, ZooError
from zoo.file_access import denial
from zoo.operating_system import execute
from zoo.quickstart_command import Quickstart
from zoo.service_client import SERVICE_URL, answering, events, fetch
from zoo.terminal import printable

if TYPE_CHECKING:
    from zoo.tasks import Task

Name = Annotated[str, tyro.conf.Positional]
Json = bool
MAX_PATH = 255  # characters; the system reports an error for a longer path


@dataclass(frozen=True)
class List:
    """Architectures: kind, paper, parameters, data sets, champions."""

    json: bool = False
    """One JSON document on stdout instead of a table."""

    def __call__(self) -> None:
        from training.listing import architectures
        from zoo.tables import show, show_architectures

        show(architectures(), self.json, show_architectures)


@dataclass(frozen=True)
class Data:
    """Data sets: size, licence, source, and whether each is present."""

    json: bool = False
    """One JSON document on stdout instead of a table."""

    def __call__(self) -> None:
        from training.datasets import listing
        from zoo.tables import show, show_data_sets

        show(listing(), self.json, show_data_sets)


@dataclass(frozen=True)
class Train:
    """Train a model, track it, export it, register it: zoo train ARCHITECTURE [--help]."""


@dataclass(frozen=True)
class Study:
    """Run a study: an idea of the course as tracked runs and one figure; without a name, list the studies."""

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Name of the study."""
    json: bool = False
    """One JSON document on stdout."""

    def __call__(self) -> None:
        from training import study
        from zoo.tables import show, show_record, show_rows

        if self.name is None:
            show(study.listing(), self.json, partial(show_rows, "Studies"))
        else:
            show(study.conduct(self.name), self.json, show_record)


@dataclass(frozen=True)
class Leaderboard:
    """Every registered version, ranked by data set."""

    dataset: Annotated[str | None, tyro.conf.Positional] = None
    """Only this data set."""
    json: bool = False
    """One JSON document on stdout instead of a table."""

    def __call__(self) -> None:
        from training.listing import leaderboard
        from zoo.tables import show, show_leaderboard

        show(leaderboard(self.dataset), self.json, show_leaderboard)


@dataclass(frozen=True)
class Promote:
    """Make a version the champion; one whose gate failed is refused."""

    name: Name
    """Registered model."""
    version: Annotated[str, tyro.conf.Positional]
    """Version number."""

    def __call__(self) -> None:
        from training import promotion

        promotion.promote(self.name, self.version)
        print(f"{self.name} version {self.version} is champion")


@dataclass(frozen=True)
class Rollback:
    """Undo the latest promotion; each further call undoes one more."""

    name: Name
    """Registered model."""

    def __call__(self) -> None:
        from training import promotion

        print(f"{self.name} version {promotion.rollback(self.name)} is champion again")


@dataclass(frozen=True)
class Challenger:
    """Have a version compete with the champion: in the shadow, or for a share of the requests."""

    name: Name
    """Registered model."""
    version: Annotated[str | None, tyro.conf.Positional] = None
    """Version to compete with the champion."""
    shadow: bool = False
    """Run each request through it after the champion, and only compare its answers; the default."""
    share: str | None = None
    """Share of the requests that it answers instead of the champion: 10% or 0.1."""
    report: bool = False
    """Compare the two by the metrics of the running service."""
    stop: bool = False
    """End the challenge."""
    url: str = SERVICE_URL
    """URL of the service."""
    json: bool = False
    """Print the report as one JSON document."""

    def __call__(self) -> None:
        if [self.version is not None, self.report, self.stop].count(True) != 1:
            raise InvalidInput("give a version that is to compete, or --report, or --stop")
        shared = self.share is not None
        if (self.shadow and shared) or (self.version is None and (self.shadow or shared)):
            raise InvalidInput("give a version with either --shadow or --share")
        if self.report:
            self._report()
            return
        from training import promotion
        from zoo.version import ChallengerMode

        if self.version is None:
            print(f"{self.name} version {promotion.end_challenge(self.name)} competes no longer")
            return
        mode = ChallengerMode() if self.share is None else ChallengerMode.of_share(self.share)
        promotion.challenge(self.name, self.version, mode)
        does = f"answers {mode.share:.4g} of the requests" if mode.share else "computes in the shadow"
        print(f"{self.name} version {self.version} {does}; zoo challenger {self.name} --report compares")

    def _report(self) -> None:
        from zoo.challenge_report import compare
        from zoo.tables import show, show_challenge

        details = fetch(f"{self.url}/models/{self.name}")
        with answering(f"{self.url}/metrics", None) as response:
            show(compare(details, response.read().decode()), self.json, show_challenge)


@dataclass(frozen=True)
class Export:
    """Write a champion's bundle to a folder that does not exist yet or is empty."""

    name: Name
    """Registered model, or a data set's name."""
    directory: Annotated[Path, tyro.conf.Positional]
    """Folder to write the bundle to."""
    version: str | None = None
    """Version to export instead of the champion."""
    variant: Literal["fp32", "int8", "int4"] = "fp32"
    """Smaller graph: int8 for an image classifier, int8 or int4 for a llama; made and compared with the
    original if it does not exist yet."""

    def __call__(self) -> None:
        from training.bundles import export

        print(f"wrote {export(self.name, self.version, self.directory, self.variant)} to {self.directory}")


@dataclass(frozen=True)
class Ui:
    """Open the MLflow UI on the zoo's runs."""

    host: str = "127.0.0.1"
    port: int = 5000

    def __call__(self) -> None:
        from training.store import connect
        from zoo.servers import mlflow_ui_command, mlflow_ui_environment

        connect()
        execute(mlflow_ui_command(self.host, self.port), mlflow_ui_environment())


@dataclass(frozen=True)
class Serve:
    """Serve the champions over HTTP."""

    bundles: Path | None = None
    """Serve the exported bundles in this folder instead of the registry's champions; no MLflow needed."""
    host: str = "127.0.0.1"
    port: int = 3000
    workers: int | None = None
    """Processes that answer at the port, 1 by default; each has a share of the cores and loads all models."""

    def __call__(self) -> None:
        if self.bundles is not None and not self.bundles.is_dir():
            raise NotFound(f"there is no folder {self.bundles}")
        environment = {} if self.bundles is None else {"ZOO_BUNDLES": str(self.bundles.resolve())}
        if self.workers is not None:
            environment["ZOO_WORKERS"] = str(self.workers)
        from zoo.ports import LOOPBACK, require_free
        from zoo.servers import service_command

        if self.host == LOOPBACK:
            require_free(self.port, "zoo serve --port {port}")
        execute(service_command(self.host, self.port), environment)


@dataclass(frozen=True)
class Predict:
    """Ask a model: image files, texts, or rows as 1.5,2,3 or as JSON."""

    name: Name
    """Registered model, or a data set's name."""
    inputs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Image files for image models; for forecasts the steps of a series, oldest first, or a file with one per
    line; texts to translate or summarize, or files with one text each; otherwise rows, or files of rows."""
    url: str = SERVICE_URL
    """URL of the service."""
    local: bool = False
    """Run the champion's bundle in this process instead of asking the service."""
    json: bool = False
    """Print the whole answer as one JSON document."""

    def __call__(self) -> None:
        if not self.inputs:
            raise InvalidInput("give at least one input")
        from zoo.tables import show, show_predictions

        show(ask(self.name, self._fields, self.url, self.local), self.json, show_predictions)

    def _fields(self, task: "type[Task]") -> dict[str, Any]:
        payload = task.payload
        if payload is None:
            asks = "write" if task.endpoint == "/generate_text" else "generate"
            raise InvalidInput(f"{self.name} takes no inputs; zoo {asks} {self.name} asks it")
        if payload == "history":
            return {payload: [step for text in self.inputs for step in steps_of(text)]}
        return {payload: [value_of(text, payload) for text in self.inputs]}


@dataclass(frozen=True)
class Generate:
    """Generate images, and write them as one PNG grid."""

    name: Name
    """Registered model."""
    count: int = 16
    """Number of images."""
    seed: int | None = None
    """The same seed gives the same images; without it, a random seed is used and printed."""
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Class of all images; without it, each class in turn."""
    out: Path = Path("grid.png")
    """File to write."""
    url: str = SERVICE_URL
    """URL of the service."""
    local: bool = False
    """Run the champion's bundle in this process instead of asking the service."""

    def __call__(self) -> None:
        from zoo.images import decode_base64, decode_png, encode_png, grid

        answer = ask(self.name, self._fields, self.url, self.local)
        images = [decode_png(decode_base64(image)) for image in answer["images"]]
        try:
            self.out.write_bytes(encode_png(grid(images), {"seed": str(answer["seed"])}))
        except OSError as error:
            raise InvalidInput(f"cannot write {self.out}: {error.strerror}") from error
        lineage = answer["lineage"]
        model = f"{lineage['model']} version {lineage['version']}"
        print(printable(f"{len(images)} images of {model}, seed {answer['seed']}: {self.out}"))

    def _fields(self, task: "type[Task]") -> dict[str, Any]:
        from zoo.tasks.image_generation import ImageGeneration

        if task is not ImageGeneration:
            raise InvalidInput(f"{self.name} is no generator of images; zoo predict {self.name} asks it")
        return {"count": self.count, "seed": self.seed, "class": self.label}


@dataclass(frozen=True)
class Write:
    """Continue a text with a language model, and print the tokens as they are generated."""

    name: Name
    """Registered model, or a data set's name."""
    prompt: Annotated[str, tyro.conf.Positional] = ""
    """Text to continue."""
    max_tokens: int = 256
    """Maximum number of tokens to write."""
    temperature: float = 0.8
    """Sampling temperature: 0 always takes the likeliest token; above 1 is more random."""
    top_k: int = 0
    """Choose among this many of the likeliest tokens; 0 for all."""
    top_p: float = 1.0
    """Choose among the likeliest tokens whose probabilities sum to this."""
    seed: int | None = None
    """The same seed gives the same text."""
    stop: tuple[str, ...] = ()
    """Strings that end the text; they are not part of it."""
    url: str = SERVICE_URL
    """URL of the service."""
    local: bool = False
    """Run the champion's bundle in this process instead of asking the service."""

    def __call__(self) -> None:
        print(self.prompt, end="", flush=True)
        if self.local:
            print(printable(ask(self.name, self._fields, self.url, self.local)["text"]))
            return
        from zoo.tasks import TASKS

        fields = self._fields(TASKS[fetch(f"{self.url}/models/{self.name}")["kind"]])
        for event in events(f"{self.url}/generate_text", {"model": self.name, "stream": True, **fields}):
            print(printable(event["text"]), end="", flush=True)
        print()

    def _fields(self, task: "type[Task]") -> dict[str, Any]:
        from zoo.tasks.language_modelling import LanguageModelling

        if task is not LanguageModelling:
            raise InvalidInput(f"{self.name} is no language model; zoo predict {self.name} asks it")
        return {
            "prompt": self.prompt,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": list(self.stop),
        }


@dataclass(frozen=True)
class TrainAll:
    """Train every architecture on every data set it has a recipe for; resume an interrupted run."""

    workers: int = 2
    """Parallel trainings, each with a share of the processor's cores."""
    long: bool = False
    """Include trainings that take a quarter of an hour or more, each on one core."""

    def __call__(self) -> None:
        from training.everything import train_everything

        train_everything(self.workers, long=self.long)


COMMANDS: dict[str, Any] = {
    "list": List,
    "data": Data,
    "train": Train,
    "train-all": TrainAll,
    "study": Study,
    "leaderboard": Leaderboard,
    "promote": Promote,
    "rollback": Rollback,
    "challenger": Challenger,
    "export": Export,
    "ui": Ui,
    "serve": Serve,
    "predict": Predict,
    "generate": Generate,
    "write": Write,
    "ask": Ask,
    "chat": Chat,
    "quickstart": Quickstart,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs one command."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # three lines per local file
    try:
        if words[:1] == ["train"]:
            from training.command import train

            train(words[1:])
        else:
            tyro.extras.subcommand_cli_from_dict(COMMANDS, args=words, prog="zoo")()
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        if error.name != "training":
            raise
        print("zoo: this command needs the package training, which is not installed", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # the reader of the output has exited, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at the end
        sys.exit(1)  # as rich does
    except ZooError as error:
        cause = error.__cause__ if isinstance(error, BundleError) else None
        detail = "" if cause is None else f" ({hide_credentials(str(cause))})"
        print(f"zoo: {printable(f'{error}{detail}', sys.stderr)}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        reason = denial(error) or f"{error.filename}: {error.strerror}"
        print(f"zoo: {printable(reason, sys.stderr)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("zoo: interrupted", file=sys.stderr)
        sys.exit(130)


def ask(name: str, fields: "Callable[[type[Task]], dict[str, Any]]", url: str, local: bool) -> dict[str, Any]:
    """Returns a model's answer; `fields` maps the kind of its task to the fields of the request."""
    if local:
        from training.bundles import ask_champion

        return ask_champion(name, fields)
    from zoo.tasks import TASKS

    task = TASKS[fetch(f"{url}/models/{name}")["kind"]]
    answer: dict[str, Any] = fetch(url + task.endpoint, {"model": name, **fields(task)})
    return answer


def value_of(text: str, payload: str) -> Any:
    """Returns the value of one input: a file's content, JSON, or numbers separated by commas."""
    path = Path(text)
    if payload == "image":
        import base64

        if not path.is_file():
            raise NotFound(f"there is no image file {text}")
        return base64.b64encode(path.read_bytes()).decode()
    try:
        if len(text) < MAX_PATH and path.is_file():
            text = path.read_text(encoding="utf-8")
        if payload == "text":
            return text.strip()
        return json.loads(text) if text.lstrip()[:1] in ("[", "{") else [float(x) for x in text.split(",")]
    except (ValueError, OSError) as error:
        raise InvalidInput(f"{text[:60]!r} is neither a file, nor JSON, nor numbers with commas") from error


def steps_of(text: str) -> list[list[float]]:
    """Returns the steps of a series, each a list of its variables' values.

    `text` is a file with one step per line, or the numbers of one step, separated by commas.
    """
    path = Path(text)
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else [text]
        return [[float(number) for number in line.split(",")] for line in lines if line.strip()]
    except (ValueError, OSError) as error:
        raise InvalidInput(f"{text[:60]!r} is neither a number nor a file with numbers: {error}") from error


__all__ = ["main"]
