"""What an operator may set, from the environment, read once at start."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    DirectoryPath,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
)

from serving.authority import authority_of
from zoo.errors import ZooError

KEYS_FILE = "ZOO_API_KEYS_FILE"
MOST_KEYS = 1 << 20  # characters of that file that are read
COLLECTORS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
EXPORTER = "opentelemetry.exporter.otlp.proto.http"
LEAST_MEMORY = 640 << 20
"""Bytes: the largest legal request, 32 MiB of JSON with 50 million pixels to be turned, needs half a GB."""
KEY = re.compile(r"(?=.{16})[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1; a shorter one could be guessed
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?")  # as browsers write it


def _keys(value: SecretStr) -> SecretStr:
    if not all(KEY.fullmatch(key) for key in value.get_secret_value().split(",")):
        raise ValueError("expected keys of 16 or more letters, digits and ._~+/- with commas between them")
    return value


def _keys_in(path: Path) -> str:
    """The keys in a file, with commas between them.

    The path is in no message: it could be a key that was set under the wrong name.
    """
    try:
        if not path.is_file() and path.exists():  # a pipe could be read once
            raise ZooError(f"{KEYS_FILE}: the file cannot be read: Not a regular file")
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            lines = file.read(MOST_KEYS).split("\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no path has a NUL"
        raise ZooError(f"{KEYS_FILE}: the file cannot be read: {reason}") from None
    keys = [key.strip() for line in lines if line.strip() for key in line.split(",")]
    if not keys or not all(map(KEY.fullmatch, keys)):
        raise ZooError(
            f"{KEYS_FILE}: expected a file with keys of 16 or more letters, digits and ._~+/-, "
            "one a line or with commas between them"
        )
    return ",".join(keys)


def _listed(value: object) -> object:
    return [item.strip() for item in value.split(",")] if isinstance(value, str) else value


def _host(value: str) -> str:
    try:
        return authority_of(value.encode()).name
    except ValueError:
        raise ValueError("expected host names with commas between them") from None


def _origin(value: str) -> str:
    if not ORIGIN.fullmatch(value):
        raise ValueError(
            "expected origins without paths, such as https://app.example, with commas between them"
        )
    return value


def _source(value: str) -> str:
    if not urlsplit(value).scheme and not Path(value).is_absolute():
        raise ValueError("expected addresses and absolute paths with commas between them")
    return value


Host = Annotated[str, AfterValidator(_host)]
Origin = Annotated[str, AfterValidator(_origin)]
Source = Annotated[str, AfterValidator(_source)]


class Settings(BaseModel):
    """Each field is the variable `ZOO_<FIELD>`; an empty variable counts as not set."""

    model_config = ConfigDict(frozen=True)

    device: Literal["cpu", "cuda"] = "cpu"
    """Where models run. A device that is not there is an error at start, never another device."""
    threads: Annotated[int, Field(ge=1)] = 1
    """CPU threads of one model's computation; requests are computed side by side on the other cores."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Processes that answer side by side, each with its share of the cores and with models of its own."""
    meeting_place: DirectoryPath | None = None
    """Where the workers find each other; set by the process that supervises them."""
    queue: Annotated[int, Field(ge=0)] = 4096
    """Requests that may wait for a core; the next one is answered 503. An upper bound: a request that could
    not be answered by its deadline is refused long before."""
    memory: Annotated[int, Field(ge=LEAST_MEMORY)] = 1 << 30
    """Bytes that the bodies of the requests in flight and what is decoded of them may take together, in each
    worker; a request for which there is no room is answered 503."""
    generations: Annotated[int, Field(ge=1)] = 16
    """Texts that a model may write at the same time; others wait until one ends."""
    deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """Seconds after which a request is answered 504; a request's `X-Request-Timeout` may only shorten it."""
    poll: Annotated[float, Field(gt=0, le=5)] = 1.0
    """Seconds between two looks at the registry."""
    on_demand: Annotated[int, Field(ge=1)] = 8
    """Versions other than champions that stay loaded; the least recently used ones give way."""
    keep_alive: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 75.0
    """Seconds after an answer until an idle connection is closed; longer than load balancers keep theirs."""
    drain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Seconds after SIGTERM for which new requests are answered 503 before the service ends, at least."""
    access_log: Literal["off", "errors", "all"] = "errors"
    """Requests that are logged: none, some of those answered 500 and above (not 501), or every one."""
    api_keys: Annotated[SecretStr, AfterValidator(_keys)] | None = None
    """Comma-separated keys of at least 16 characters, one of which every request but a health check needs;
    without it none does. `ZOO_API_KEYS_FILE` names a file with them instead, one a line or with commas."""
    open_metrics: bool = False
    """`/metrics` needs no key either, as Prometheus often has none."""
    hosts: Annotated[frozenset[Host], BeforeValidator(_listed)] | None = None
    """Comma-separated names that a request's `Host` may have, whatever its port; another is answered 421. By
    default the loopback names where the service is bound to loopback, and any name elsewhere."""
    origins: Annotated[frozenset[Origin], BeforeValidator(_listed)] = frozenset()
    """Comma-separated origins of web pages on other sites that may use the service."""
    connections: Annotated[int, Field(ge=1)] = 1000
    """Connections that each worker keeps at the same time; the next one is closed at once."""
    bundles: DirectoryPath | None = None
    """Serve the exported bundles under this directory instead of a registry."""
    sources: Annotated[tuple[Source, ...], BeforeValidator(_listed)] = ()
    """Comma-separated addresses and absolute paths, such as `s3://models/zoo,/srv/models`, below which files
    of versions may lie, besides the tracking store's own folders."""
    mlflow_url: HttpUrl | None = None
    """Address of MLflow for browsers; the page at `/` links to it."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The settings of these variables; `ZooError` names a value that cannot be."""
        given = {name: environment.get(f"ZOO_{name.upper()}") for name in cls.model_fields}
        if file := environment.get(KEYS_FILE):
            if given["api_keys"]:
                raise ZooError(f"ZOO_API_KEYS and {KEYS_FILE} are both set: set one of them")
            given["api_keys"] = _keys_in(Path(file))
        try:
            return cls.model_validate({name: value for name, value in given.items() if value})
        except ValidationError as error:
            problems = (_told(str(e["loc"][0]), e["input"], e["msg"]) for e in error.errors())
            raise ZooError("; ".join(problems)) from None


def traced(environment: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's variables name a collector; `ZooError` where nothing can send to it."""
    if environment.get("OTEL_TRACES_EXPORTER") == "none" or not any(map(environment.get, COLLECTORS)):
        return False
    try:
        found = find_spec(EXPORTER) is not None
    except ModuleNotFoundError:  # a package that it lies in
        found = False
    if not found:
        raise ZooError(f"{COLLECTORS[1]} needs OpenTelemetry's exporter: pip install '.[tracing]'")
    return True


def _told(name: str, value: object, message: str) -> str:
    shown = "" if name == "api_keys" else f"={value}"
    return f"ZOO_{name.upper()}{shown}: {message}"
