"""Valid requests of every endpoint, changed at random: each has an answer in time, and none is a failure.

A run is reproducible by its seed. `make soak` runs ten minutes of it.
"""

import base64
import copy
import gzip
import http.client
import json
import random
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from conftest import SURPLUS
from server import Server, memory, running
from tiny_zoo import TinyRegistry

DEADLINE_SECONDS = 5.0
LATE_SECONDS = DEADLINE_SECONDS + 1
REQUESTS = 400
SOAK_SECONDS = 600.0
MOST_ITEMS = 100  # of a list that is repeated: lists in lists would become gigabytes
ALLOWED_FAILURES = {503, 504}  # overloaded, late

VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        0.5,
        1e308,
        2**31,
        2**63,
        2**64,
        -(2**63),
        10**30,
        "",
        "a",
        " ",
        "\0",
        "é",
    ),
    *("😀" * 50, "a" * 70_000, "[" * 5000, "../../etc/passwd", "data:image/png;base64,", "%s%n", "a\r\nb: c"),
    *([], {}, [[]], [{}], {"": 0}, [None] * 300, [[1] * 100] * 100, {str(i): i for i in range(300)}),
    json.loads("[" * 200 + "]" * 200),
]
RAW = [
    b"NaN",
    b"1e999",
    b"-",
    b'"\\ud800"',
    b"\xff\xfe",
    b"1" * 5000,
    b'{"a":1,"a":2}',
    b"[" * 2000,
    b"\xef\xbb\xbf",
]
HEADERS: list[tuple[str, bytes]] = [
    *(("Content-Type", v) for v in (b"text/plain", b"application/octet-stream", b"", b"multipart/form-data")),
    *(("Content-Type", v) for v in (b"application/json; charset=utf-16", b"multipart/form-data; boundary=x")),
    *(("Content-Encoding", v) for v in (b"gzip", b"deflate", b"br", b"gzip, gzip", b"identity", b",,,")),
    *(("Accept-Encoding", v) for v in (b"gzip;q=nan", b"*", b"," * 1000, b"\xff")),
    *(("Accept", v) for v in (b"image/png", b"text/event-stream", b"*/*;q=1e9", b"a/b;" * 500)),
    *(("X-Request-Timeout", v) for v in (b"0", b"-1", b"nan", b"1e-9", b"0.01", b"inf", b"1" * 400)),
    *(("Inference-Header-Content-Length", v) for v in (b"0", b"1", b"-1", b"99999999999", b"a")),
    *(("X-Request-Id", v) for v in (b"a" * 5000, b"\xff", b"a b")),
    ("X-Request-Key", b"k" * 5000),
    ("Origin", b"http://evil.example"),
    ("Authorization", b"Bearer " + b"a" * 5000),
    ("Range", b"bytes=0-1"),
    ("Expect", b"100-continue"),
]


class Fuzzer:
    """Makes requests of valid ones."""

    def __init__(self, url: str, seed: int) -> None:
        self._random = random.Random(seed)
        self._valid = list(valid_requests(url))

    def request(self) -> tuple[str, str, bytes, dict[str, bytes]]:
        """Returns method, path, body and headers."""
        chance = self._random.random
        path, fields = self._random.choice(self._valid)
        method = "POST" if fields is not None else "GET"
        headers = {"Content-Type": b"application/json", "X-Request-Timeout": b"2"}
        body = b""
        if fields is not None:
            changed = json.loads(json.dumps(fields))
            for _ in range(self._random.choice((0, 1, 1, 2, 5))):
                changed = self._change_value(changed)
            body = json.dumps(changed).encode(errors="surrogatepass")
            if chance() < 0.3:
                body = self._change_bytes(body)
        if chance() < 0.2:
            name, value = self._random.choice(HEADERS)
            headers[name] = value
        if chance() < 0.2:
            body = gzip.compress(body) if chance() < 0.7 else zlib.compress(body)
            headers["Content-Encoding"] = self._random.choice((b"gzip", b"gzip", b"deflate"))
            if chance() < 0.3:
                body = self._change_bytes(body)
        if chance() < 0.03:
            method = self._random.choice(("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"))
        if chance() < 0.03:
            path += self._random.choice(("/", "/x", "?a=b", "/versions/1", "/versions/-1/infer", "%00", "//"))
        return method, path, body, headers

    def _change_value(self, value: Any) -> Any:
        """Changes one value somewhere inside."""
        choice = self._random.choice
        if isinstance(value, dict) and value and self._random.random() < 0.9:
            name = choice(list(value))
            action = self._random.random()
            if action < 0.1:
                del value[name]
            elif action < 0.2:
                value[choice(("x", "model", "__class__", "a" * 300))] = value[name]
            else:
                value[name] = self._change_value(value[name])
            return value
        if isinstance(value, list) and value and self._random.random() < 0.9:
            place = self._random.randrange(len(value))
            action = self._random.random()
            if action < 0.1:
                return (value * choice((0, 2, 50)))[:MOST_ITEMS]
            if action < 0.2:
                return value[:place]
            value[place] = self._change_value(value[place])
            return value
        if isinstance(value, str) and len(value) > 40 and self._random.random() < 0.8:
            return self._change_file(value)
        return copy.deepcopy(choice(VALUES))

    def _change_file(self, text: str) -> str:
        try:
            content = base64.b64decode(text, validate=True)
        except ValueError:
            return text * 3
        return base64.b64encode(self._change_bytes(content)).decode()

    def _change_bytes(self, data: bytes) -> bytes:
        for _ in range(self._random.choice((1, 1, 3, 10))):
            place = self._random.randrange(len(data) + 1)
            other = self._random.randrange(len(data) + 1)
            low, high = min(place, other), max(place, other)
            action = self._random.randrange(6)
            if action == 0:
                data = data[:place] + self._random.randbytes(1) + data[place + 1 :]
            elif action == 1:
                data = data[:low] + data[min(high, low + 8) :]
            elif action == 2:
                data = data[:place] + self._random.choice(RAW) + data[place:]
            elif action == 3:
                data = data[:high] + data[low:high] * self._random.choice((1, 5)) + data[high:]
            elif action == 4:
                data = data[:place]
            else:
                data = data[:low] + data[low:high].replace(b"0", b"999999999") + data[high:]
            data = data[: 1 << 20]
        return data


def valid_requests(url: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Paths with the fields of a body, or none of a GET."""
    for path in ("/models", "/livez", "/readyz", "/metrics", "/docs.json", "/v1/models", "/v2", "/", "/docs"):
        yield path, None
    yield "/v2/repository/index", {"ready": True}
    for model in httpx.get(f"{url}/models").json()["models"]:
        name, request = model["name"], model["example_request"]
        yield model["endpoint"], request
        yield f"/models/{name}", None
        if model["kind"] == "image_classification":
            yield "/explain_image", request
        if model["kind"] == "language_modelling":
            yield "/v1/completions", {"model": name, "prompt": "ab", "max_tokens": 3, "stop": ["z"], "n": 2}
            messages = [{"role": "user", "content": "ab"}]
            yield (
                "/v1/chat/completions",
                {"model": name, "messages": messages, "max_tokens": 3, "stream": True},
            )
            schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
            form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
            yield "/v1/completions", {"model": name, "prompt": "a", "max_tokens": 8, "response_format": form}
            yield f"/v2/models/{name}/generate", {"text_input": "ab", "parameters": {"max_tokens": 3}}
            yield f"/v2/models/{name}/generate_stream", {"text_input": "ab", "max_tokens": 3}
            yield "/answer", {"model": name, "passage": "a b c.", "question": "a?"}
        metadata = httpx.get(f"{url}/v2/models/{name}").json()
        inputs = [
            {"name": i["name"], "datatype": i["datatype"], "shape": shape, "data": [1] * size}
            for i in metadata["inputs"]
            for shape, size in [concrete(i["shape"])]
        ]
        yield f"/v2/models/{name}/infer", {"inputs": inputs}
        yield f"/v2/models/{name}/stats", None


def concrete(shape: list[int]) -> tuple[list[int], int]:
    """A shape without axes of any length, and its size."""
    sizes = [1 if size < 0 else size for size in shape]
    size = 1
    for one in sizes:
        size *= one
    return sizes, size


def ask(server: Server, method: str, path: str, body: bytes, headers: dict[str, bytes]) -> int:
    """Status of the answer; 0 where the connection was closed, as it may be after a malformed head."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        connection.request(method, path, body, headers)  # type: ignore[arg-type]  # bytes will do
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (http.client.HTTPException, ConnectionError):
        return 0
    finally:
        connection.close()


@pytest.fixture(scope="module")
def fuzzed(registry: TinyRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log: Path = tmp_path_factory.mktemp("fuzzed") / "server.log"
    with running(log, ZOO_HOME=str(registry.home), ZOO_DEADLINE=str(DEADLINE_SECONDS)) as server:
        yield server


def fuzz(server: Server, seed: int, goes_on: Callable[[int], bool]) -> Counter[int]:
    """Counts of the answers' statuses. Fails at a request that is answered wrongly or late, and shows it."""
    fuzzer = Fuzzer(server.url, seed)
    statuses: Counter[int] = Counter()
    while goes_on(statuses.total()):
        method, path, body, headers = fuzzer.request()
        begun = time.monotonic()
        status = ask(server, method, path, body, headers)
        seconds = time.monotonic() - begun
        statuses[status] += 1
        shown = f"{method} {path} {headers} {body[:2000]!r}: {status} after {seconds:.1f} s (seed {seed})"
        assert status < 500 or status in ALLOWED_FAILURES, shown
        assert seconds < LATE_SECONDS, shown
        assert psutil.pid_exists(server.pid), shown
    return statuses


def test_a_few_hundred_changed_requests(fuzzed: Server) -> None:
    before = memory(fuzzed)
    statuses = fuzz(fuzzed, 1, lambda count: count < REQUESTS)
    assert statuses[200] > REQUESTS / 10
    assert statuses[400] + statuses[422] > REQUESTS / 10
    assert httpx.get(f"{fuzzed.url}/readyz").status_code == 200
    assert memory(fuzzed) < before + SURPLUS


@pytest.mark.soak
def test_ten_minutes_of_changed_requests(fuzzed: Server) -> None:
    fuzz(fuzzed, 2, lambda count: count < REQUESTS)
    before, end = memory(fuzzed), time.monotonic() + SOAK_SECONDS
    statuses = fuzz(fuzzed, time.time_ns(), lambda _: time.monotonic() < end)
    print(f"{statuses.total():,} changed requests: {dict(sorted(statuses.items()))}")  # noqa: T201
    print(f"{before / 1e6:.0f} MB before, {memory(fuzzed) / 1e6:.0f} MB in the end")  # noqa: T201
    assert httpx.get(f"{fuzzed.url}/readyz").status_code == 200
    assert memory(fuzzed) < before + SURPLUS
