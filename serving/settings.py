"""Settings of the service from environment variables, read once at start."""

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
MOST_KEYS = 1 << 20  # maximum characters in that file
COLLECTORS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
EXPORTER = "opentelemetry.exporter.otlp.proto.http"
LEAST_MEMORY = 640 << 20
"""Bytes: the largest valid request, 32 MiB of JSON with 50 million pixels to be rotated, needs 0.5 GB."""
KEY = re.compile(r"(?=.{16})[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1; a shorter one could be guessed
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?")  # as browsers write it


def _keys(value: SecretStr) -> SecretStr:
    if not all(KEY.fullmatch(key) for key in value.get_secret_value().split(",")):
        raise ValueError("expected keys of 16 or more letters, digits and ._~+/- with commas between them")
    return value


def _keys_in(path: Path) -> str:
    """Returns the keys in a file, separated by commas.

    Error messages do not contain the path, as it could be a key that was set under the wrong name.
    """
    try:
        if not path.is_file() and path.exists():  # a pipe could only be read once
            raise ZooError(f"{KEYS_FILE}: the file cannot be read: Not a regular file")
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            text = file.read(MOST_KEYS + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "Its path contains a NUL"
        raise ZooError(f"{KEYS_FILE}: the file cannot be read: {reason}") from None
    if len(text) > MOST_KEYS:
        raise ZooError(f"{KEYS_FILE}: the file has more than {MOST_KEYS} characters")
    lines = text.split("\n")
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
    """Settings, each from the variable `ZOO_<FIELD>`; an empty variable counts as not set."""

    model_config = ConfigDict(frozen=True)

    device: Literal["cpu", "cuda"] = "cpu"
    """Device that runs the models. If it is missing, the start fails: there is no fallback."""
    threads: Annotated[int, Field(ge=1)] = 1
    """CPU threads for one computation of a model; other requests use the other cores in parallel."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Processes that answer in parallel, each with its share of the cores and its own copy of the models."""
    meeting_place: DirectoryPath | None = None
    """Directory in which the workers find each other; set by the process that supervises them."""
    queue: Annotated[int, Field(ge=0)] = 4096
    """Maximum number of requests that wait for a core; further ones are answered 503. A request that could
    not be answered by its deadline is refused long before that."""
    memory: Annotated[int, Field(ge=LEAST_MEMORY)] = 1 << 30
    """Maximum bytes for the bodies of the requests in flight and the data decoded from them, in each worker;
    a request for which too few are free is answered 503."""
    generations: Annotated[int, Field(ge=1)] = 16
    """Maximum number of texts that a model generates at the same time; others wait until one ends."""
    deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """Seconds after which a request is answered 504; a request's `X-Request-Timeout` may only shorten it."""
    poll: Annotated[float, Field(gt=0, le=5)] = 1.0
    """Seconds between two reads of the registry."""
    on_demand: Annotated[int, Field(ge=1)] = 8
    """Maximum number of versions besides champions that stay loaded; the least recently used are unloaded."""
    keep_alive: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 75.0
    """Seconds after an answer until an idle connection is closed; longer than is usual for load balancers."""
    drain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Minimum seconds after SIGTERM for which new requests are answered 503, before the service ends."""
    access_log: Literal["off", "errors", "all"] = "errors"
    """Requests that are logged: none, a sample of those answered 500 or above (except 501), or all."""
    api_keys: Annotated[SecretStr, AfterValidator(_keys)] | None = None
    """Comma-separated API keys of at least 16 characters; if set, all requests except health checks need one.
    `ZOO_API_KEYS_FILE` names a file with keys instead, one per line or comma-separated."""
    open_metrics: bool = False
    """Allow access to `/metrics` without a key, as Prometheus often has none."""
    hosts: Annotated[frozenset[Host], BeforeValidator(_listed)] | None = None
    """Comma-separated names that a request's `Host` may have, with any port; others are answered 421. By
    default the loopback names if the service is bound to loopback, otherwise any name."""
    origins: Annotated[frozenset[Origin], BeforeValidator(_listed)] = frozenset()
    """Comma-separated origins of web pages on other sites that may use the service."""
    connections: Annotated[int, Field(ge=1)] = 1000
    """Maximum number of open connections in each worker; further ones are closed at once."""
    bundles: DirectoryPath | None = None
    """Serve the exported bundles under this directory instead of a registry."""
    sources: Annotated[tuple[Source, ...], BeforeValidator(_listed)] = ()
    """Comma-separated URIs and absolute paths, such as `s3://models/zoo,/srv/models`, below which files of
    versions may lie, in addition to the tracking store's own folders."""
    mlflow_url: HttpUrl | None = None
    """URL of MLflow for browsers; the page at `/` links to it."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Reads the settings from environment variables. Raises `ZooError` that names each invalid value."""
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
    """Returns True if OpenTelemetry's variables name a collector. Raises `ZooError` without an exporter."""
    if environment.get("OTEL_TRACES_EXPORTER") == "none" or not any(map(environment.get, COLLECTORS)):
        return False
    try:
        found = find_spec(EXPORTER) is not None
    except ModuleNotFoundError:  # a parent package is missing
        found = False
    if not found:
        raise ZooError(f"{COLLECTORS[1]} needs OpenTelemetry's exporter: pip install '.[tracing]'")
    return True


def _told(name: str, value: object, message: str) -> str:
    shown = "" if name == "api_keys" else f"={value}"
    return f"ZOO_{name.upper()}{shown}: {message}"
