"""Connections over the limit, and clients that do not read their answers."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from server import free_port, running, wait_for
from starlette.types import Receive, Scope, Send
from test_bad_input import connected
from tiny_zoo import write_regression

from serving import open_connections
from serving.connection import BoundedConnection
from serving.exchange import Exchange
from serving.memory import MemoryBudget
from serving.open_connections import OpenConnections
from serving.settings import Settings

LARGE = bytes(8_000_000)  # more than the buffers of both operating systems hold
READ_SECONDS, LOOK_SECONDS, DEADLINE = 0.6, 0.05, 0.3
SOON = 5.0  # seconds, on a busy test machine
ASK = b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n"


@dataclass
class Running:
    """A server in a thread, whose connections are looked at often."""

    port: int
    connections: OpenConnections
    memory: MemoryBudget
    ended: list[str]
    """Paths of the requests whose answer ended, or broke off."""

    def open(self, path: bytes, headers: bytes = b"") -> socket.socket:
        """A client with a small buffer that asks and does not read."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", self.port))
        client.sendall(ASK % (path, headers))
        return client


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(open_connections, "READ_SECONDS", READ_SECONDS)
    monkeypatch.setattr(open_connections, "LOOK_SECONDS", LOOK_SECONDS)
    memory = MemoryBudget(1 << 30, lambda: 1.0)
    connections = OpenConnections(Settings(deadline=DEADLINE, connections=20), memory)
    monkeypatch.setattr(BoundedConnection, "all_open", connections)
    monkeypatch.setattr(BoundedConnection, "keep_alive", 0.2)
    ended: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        try:
            if exchange.path == "/stream":
                exchange.limit(DEADLINE)
                start = {"type": "http.response.start", "status": 200, "headers": []}
                await exchange.send(start)
                for _ in range(100):
                    part = {"type": "http.response.body", "body": LARGE[:100_000], "more_body": True}
                    await exchange.send(part)
                await exchange.send({"type": "http.response.body"})
            else:
                if exchange.path != "/page":
                    exchange.limit(60 if exchange.path == "/later" else DEADLINE)
                await exchange.answer(200, b"" if exchange.path == "/small" else LARGE, b"image/png")
        finally:
            ended.append(exchange.path)

    port = free_port()
    config = uvicorn.Config(application, port=port, http=BoundedConnection, lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started, within=30)
    yield Running(port, connections, memory, ended)
    server.should_exit = True
    server.force_exit = True
    thread.join(30)


def read_all(client: socket.socket) -> int:
    """Bytes that still come."""
    count = 0
    client.settimeout(SOON)
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(1 << 20):
            count += len(part)
    return count


@pytest.mark.parametrize("path", [b"/large", b"/stream", b"/page"])
@pytest.mark.parametrize("headers", [b"", b"Connection: close\r\n"])
def test_a_client_that_does_not_read_is_cut_off(served: Running, path: bytes, headers: bytes) -> None:
    with served.open(path, headers) as client:
        wait_for(lambda: served.connections.aborted == 1, within=SOON)
        assert read_all(client) < 1_000_000
    wait_for(lambda: len(served.connections) == 0 and served.ended == [path.decode()])
    assert served.connections.refused == 0


def test_many_small_answers_that_nobody_reads(served: Running) -> None:
    with served.open(b"/large") as client:
        with contextlib.suppress(OSError):
            client.sendall(ASK % (b"/small", b"") * 2000)
        wait_for(lambda: served.connections.aborted == 1, within=SOON)
        wait_for(lambda: len(served.connections) == 0)


def test_not_before_the_deadline(served: Running) -> None:
    with served.open(b"/later") as client:
        time.sleep(3 * READ_SECONDS)
        assert served.connections.aborted == 0
        assert read_all(client) > len(LARGE)


@pytest.mark.parametrize("path", [b"/large", b"/stream"])
def test_a_slow_reader_is_kept(served: Running, path: bytes) -> None:
    with served.open(path) as client:
        for _ in range(15):
            assert client.recv(4096)
            time.sleep(READ_SECONDS / 6)
        assert served.connections.aborted == 0
        assert read_all(client) > 7_000_000


def test_what_is_unread_counts_as_memory(served: Running) -> None:
    clients = [served.open(b"/later") for _ in range(3)]
    wait_for(lambda: served.memory.reserved > 10_000_000)
    for client in clients:
        client.close()
    wait_for(lambda: served.memory.reserved == 0)


def test_a_client_that_waits_is_kept(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedConnection, "keep_alive", 60)
    with served.open(b"/small") as client:
        assert client.recv(1000)
        time.sleep(2 * READ_SECONDS)
        client.sendall(ASK % (b"/small", b""))
        assert client.recv(1000)
    assert served.connections.aborted == 0


def is_closed(client: socket.socket) -> bool:
    client.settimeout(SOON)
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.slow
def test_connections_over_the_limit_are_closed_at_once(tmp_path: Path) -> None:
    write_regression(tmp_path / "bundles" / "made")
    variables = {"ZOO_BUNDLES": str(tmp_path / "bundles"), "ZOO_CONNECTIONS": "5"}
    with (
        running(tmp_path / "log", **variables) as server,
        httpx.Client(base_url=server.url) as client,
        contextlib.ExitStack() as kept,
    ):

        def value(name: str) -> float:
            page = client.get("/metrics").text
            return float(re.search(f"^{name} (.+)", page, re.MULTILINE)[1])

        wait_for(lambda: value("zoo_connections") == 1)
        for _ in range(4):
            kept.enter_context(connected(server))
        wait_for(lambda: value("zoo_connections") == 5)
        for _ in range(20):
            with connected(server) as refused, contextlib.suppress(OSError):
                refused.sendall(ASK % (b"/livez", b""))
                assert is_closed(refused)
        assert value("zoo_connections_refused_total") >= 20
        kept.close()
        wait_for(lambda: value("zoo_connections") == 1)
        assert httpx.get(f"{server.url}/livez").status_code == 200
