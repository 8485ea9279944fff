"""Everything that was sent to do harm, at once, beside a client that asks as usual."""

import base64
import gzip
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import httpx
import numpy as np
import pytest
from image_files import chunk, png, scans
from server import Server, memory, running, wait_for
from test_many_values import BODIES, HEADERS
from tiny_zoo import TinyRegistry

from serving.settings import Settings

SOAK_SECONDS = 60.0
ATTACKERS = 8
"""Clients that each send one hostile request after the other."""
ORDINARY_P99_SECONDS = 0.25
ALIVE_SECONDS = 0.1
CHILD_MEMORY = 300_000_000
"""Bytes of processes beside the one that answers, and of what it holds beside its budget."""
SCHEMAS: list[dict[str, object]] = [
    {"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 99_999_989}}, "required": ["a"]},
    {"type": "object", "patternProperties": {f"^a{'b?' * i}$": {"type": "string"} for i in range(300)}},
    {"type": "string", "pattern": "((a{1,1000}){1,1000}){1,1000}"},
    {"enum": [f"{number}" for number in range(10_000)]},
    json.loads('{"anyOf": [' * 60 + "{}" + "]}" * 60),
]


Hostile = tuple[str, bytes, dict[str, str]]
"""Path, body and headers."""


def hostile_requests() -> list[Hostile]:
    found = [(path, gzip.compress(body(), 6), HEADERS) for path, body in BODIES.values()]
    files = [
        [scans(7071, 400)],
        [scans(64, 20_000)],
        [png(chunk(b"teXt") * 400_000)],
        [png(chunk(b"acTL") * 9000)] * 60,
    ]
    for images in files:
        texts = [base64.b64encode(image).decode() for image in images]
        body = json.dumps({"model": "mnist", "image": texts}).encode()
        found.append(("/classify_image", gzip.compress(body, 6), HEADERS))
    for schema in SCHEMAS:
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        fields = {"model": "rnn-letters", "prompt": "a", "max_tokens": 8, "response_format": form}
        found.append(("/v1/completions", gzip.compress(json.dumps(fields).encode()), HEADERS))
    prompts = {"model": "rnn-letters", "prompt": ["ab " * 21_845] * 120}
    found.append(("/v1/completions", gzip.compress(json.dumps(prompts).encode()), HEADERS))
    rows = {"model": "diabetes", "rows": [[1, 2]] * 4096}
    found.append(
        ("/regress", gzip.compress(json.dumps(rows).encode()), {**HEADERS, "Accept-Encoding": "," * 60_000})
    )
    return found


def attack(url: str, requests: list[Hostile], seed: int, until: float) -> Counter[int]:
    """Sends hostile requests in random order; counts the answers' statuses, 0 where there was none."""
    chosen, statuses = random.Random(seed), Counter[int]()
    with httpx.Client(base_url=url, timeout=60) as client:
        while time.monotonic() < until:
            path, body, headers = chosen.choice(requests)
            try:
                statuses[client.post(path, content=body, headers=headers).status_code] += 1
            except httpx.TransportError:
                statuses[0] += 1
    return statuses


def ask_without_reading(server: Server, until: float) -> None:
    """Opens connection after connection, asks for much on each, and reads nothing."""
    host, port = server.url.removeprefix("http://").split(":")
    body = gzip.compress(json.dumps({"model": "diabetes", "rows": [[1, 2]] * 4096}).encode())
    head = f"POST /regress HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    opened: list[socket.socket] = []
    while time.monotonic() < until:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        one.connect((host, int(port)))
        one.sendall(request)
        opened.append(one)
        if len(opened) > 50:
            opened.pop(0).close()
        time.sleep(0.1)
    for one in opened:
        one.close()


def ask_as_usual(server: Server, path: str, body: object, until: float) -> list[float]:
    """Seconds that each request took; fails where one is not answered with 200."""
    seconds: list[float] = []
    with httpx.Client(base_url=server.url, timeout=60) as client:
        while time.monotonic() < until:
            begun = time.monotonic()
            answer = client.get(path) if body is None else client.post(path, json=body)
            seconds.append(time.monotonic() - begun)
            assert answer.status_code == 200, answer.text
            time.sleep(0.01)
    return seconds


def watch_memory(server: Server, ended: threading.Event) -> int:
    """The most bytes that the service and its children hold until the event."""
    most = 0
    while not ended.wait(0.05):
        most = max(most, memory(server))
    return most


@pytest.fixture
def attacked(registry: TinyRegistry, tmp_path: Path) -> Iterator[Server]:
    log = tmp_path / "server.log"
    with running(log, ZOO_HOME=str(registry.home), ZOO_DEADLINE="10") as server:
        yield server


@pytest.mark.soak
def test_everything_at_once(attacked: Server) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8)).tolist()
    usual = {"model": "mnist", "pixels": pixels}
    before, right = memory(attacked), httpx.post(f"{attacked.url}/classify_image", json=usual).json()
    requests, ended = hostile_requests(), threading.Event()
    # Attackers are processes: as threads they would take the interpreter from the client that is timed.
    with ThreadPoolExecutor(4) as pool, ProcessPoolExecutor(ATTACKERS, get_context("spawn")) as processes:
        until = time.monotonic() + SOAK_SECONDS
        watching = pool.submit(watch_memory, attacked, ended)
        attacks = [processes.submit(attack, attacked.url, requests, seed, until) for seed in range(ATTACKERS)]
        pool.submit(ask_without_reading, attacked, until)
        asked = pool.submit(ask_as_usual, attacked, "/classify_image", usual, until)
        alive = pool.submit(ask_as_usual, attacked, "/livez", None, until)
        statuses = sum((each.result() for each in attacks), Counter[int]())
        ended.set()
    p99 = float(np.quantile(asked.result(), 0.99))
    peak, longest = watching.result(), max(alive.result())
    print(f"answers to hostile requests: {dict(sorted(statuses.items()))}")  # noqa: T201
    print(f"p99 {p99:.3f} s of {len(asked.result()):,}; /livez took at most {longest:.3f} s")  # noqa: T201
    print(f"{before / 1e6:.0f} MB before, at most {peak / 1e6:.0f} MB")  # noqa: T201
    assert statuses.keys() <= {200, 400, 413, 422, 503, 504}
    assert p99 < ORDINARY_P99_SECONDS
    assert float(np.quantile(alive.result(), 0.99)) < ALIVE_SECONDS
    assert peak - before < Settings().memory + CHILD_MEMORY
    assert httpx.get(f"{attacked.url}/readyz").status_code == 200
    assert httpx.post(f"{attacked.url}/classify_image", json=usual).json() == right
    wait_for(lambda: memory(attacked) < before + CHILD_MEMORY, within=90)
    print(f"{memory(attacked) / 1e6:.0f} MB in the end")  # noqa: T201
