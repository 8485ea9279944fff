"""SIGTERM through real processes: what was begun is finished, what comes later refused, nothing left."""

import json
import math
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from server import command, environment, free_port
from tiny_zoo import write_regression, write_writer

pytestmark = pytest.mark.slow

TOKENS = 300
TEXT = {"model": "rnn-letters", "prompt": "abc", "temperature": 0, "max_tokens": TOKENS}
ENOUGH = 30.0  # seconds of patience
WRITTEN = 120.0  # seconds in which the text is written, however busy the machine


@contextmanager
def service(folder: Path, **variables: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A ready service and its process, which a test ends."""
    write_regression(folder / "bundles" / "regression")
    write_writer(folder / "bundles" / "writer", slow=1200)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {"ZOO_BUNDLES": str(folder / "bundles"), **variables}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command(port), env=environment(**variables), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        end = time.monotonic() + ENOUGH
        while not _is_ready(url):
            assert time.monotonic() < end, (folder / "log").read_text()
        yield url, process
    finally:
        process.kill()
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def ended(process: "subprocess.Popen[bytes]", seconds: float = ENOUGH) -> int:
    """The exit code of a process that is ending; none of its children outlives it."""
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    code = process.wait(seconds)
    assert not any(child.is_running() for child in children)
    return code


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_text_in_flight_is_finished(tmp_path: Path, stream: bool) -> None:
    with service(tmp_path, ZOO_DRAIN="0", ZOO_DEADLINE=str(WRITTEN)) as (url, process):
        answers: list[httpx.Response] = []

        def write() -> None:
            answers.append(
                httpx.post(f"{url}/generate_text", json={**TEXT, "stream": stream}, timeout=WRITTEN)
            )

        writing = threading.Thread(target=write)
        with httpx.Client(base_url=url) as kept:
            writing.start()
            while 'model="rnn-letters",state="busy"} 1.0' not in kept.get("/metrics").text:
                pass
            process.send_signal(signal.SIGTERM)
            while kept.get("/readyz").status_code == 200:
                pass
            assert writing.is_alive(), "the text is to be in flight still"
            for ask in (kept, httpx):  # over a connection that was there, and over a new one
                base = "" if ask is kept else url
                for path in ("/readyz", "/models", "/v2/health/ready"):
                    refused = ask.get(f"{base}{path}")
                    assert refused.status_code == 503
                    assert refused.headers["retry-after"] == "1"
                    assert refused.headers["connection"] == "close"
                    assert path.startswith("/v2") or refused.json()["code"] == "draining"
                assert ask.get(f"{base}/livez").status_code == 200
                assert ask.get(f"{base}/metrics").status_code == 200
            assert writing.is_alive()
        assert ended(process, WRITTEN) == 0
        writing.join()
        (answer,) = answers
        assert answer.status_code == 200
        if stream:
            *pieces, done = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
            assert done == "[DONE]"
            text = "".join(json.loads(piece)["text"] for piece in pieces)
        else:
            text = answer.json()["text"]
        assert len(text) == TOKENS
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/livez")


def test_new_requests_are_refused_for_a_while(tmp_path: Path) -> None:
    with service(tmp_path, ZOO_DRAIN="2") as (url, process):
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        while httpx.get(f"{url}/readyz").status_code == 200:
            pass
        while time.monotonic() - begun < 1:
            assert httpx.get(f"{url}/readyz").status_code == 503
        process.send_signal(signal.SIGTERM)  # again changes nothing
        assert ended(process) == 0
        assert time.monotonic() - begun >= 2


def answered(url: str) -> float:
    """How many requests have been answered so far."""
    page = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in page if line.startswith("zoo_requests_total"))


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /regress HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{",  # and never the rest
        b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n" * 9000,  # and never reads what comes
    ],
    ids=["body", "answers"],
)
def test_a_client_that_waits_cannot_hold_it_up(tmp_path: Path, sent: bytes) -> None:
    with service(tmp_path, ZOO_DRAIN="0", ZOO_DEADLINE="1") as (url, process):
        address = httpx.URL(url)
        with socket.create_connection((address.host, address.port)) as connection:
            connection.sendall(sent)
            before = -math.inf
            while (now := answered(url)) > before + 1:  # more than this loop asks: the client is still served
                before = now
            process.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            assert ended(process) == 0
            assert time.monotonic() - begun > 0.5, "it did not wait for that client"


def test_ctrl_c_ends_it_too(tmp_path: Path) -> None:
    with service(tmp_path, ZOO_DRAIN="9") as (_, process):
        worker = psutil.Process(process.pid).children()[0]
        for pid in (process.pid, worker.pid):  # as a terminal sends it to both
            os.kill(pid, signal.SIGINT)
        assert ended(process, 8) == 0
