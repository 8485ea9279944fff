"""Clients that keep a connection and never finish a request: closed in time, and nobody waits for them."""

import contextlib
import select
import socket
import time

import httpx
import pytest
from server import Server
from test_bad_input import HEAD, connected, status

from serving.connection import PATIENCE

PAUSE = 0.2  # seconds between the bytes of a client that trickles
LONGEST_ANSWER = 2.0  # seconds for somebody else, on a busy test machine
MANY = 100


def begun(server: Server, first: bytes) -> socket.socket:
    connection = connected(server)
    connection.sendall(first)
    return connection


def opened(server: Server) -> dict[socket.socket, str]:
    """Connections of each kind of slow client, with its name."""
    kept = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    refused = HEAD % b"/regress" + b"Content-Length: 99999999999\r\n\r\n"
    body = HEAD % b"/regress" + b"X-Request-Timeout: 1\r\nContent-Length: 1000\r\n\r\n{"
    firsts = {"head": b"POST /reg", "behind another": kept + b"GET /li", "refused": refused, "body": body}
    connections = {begun(server, first): name for name, first in firsts.items() for _ in range(MANY)}
    return connections | {connected(server): "silent" for _ in range(MANY)}


def trickled(server: Server, connections: dict[socket.socket, str]) -> dict[socket.socket, bytes]:
    """What each was answered, once all are closed; they send a byte at a time until then."""
    answers = dict.fromkeys(connections, b"")
    still_open, end = set(connections), time.monotonic() + PATIENCE * 2
    while still_open:
        assert time.monotonic() < end, {connections[c] for c in still_open}
        readable, _, _ = select.select(still_open, (), (), PAUSE)
        for connection in readable:
            try:
                part = connection.recv(65536)
            except ConnectionResetError:
                part = b""
            answers[connection] += part
            if not part:
                still_open.remove(connection)
                connection.close()
        for connection in still_open:
            if connections[connection] != "silent":
                with contextlib.suppress(OSError):  # closed, which the next look shows
                    connection.sendall(b"a")
        asked = time.monotonic()
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        assert time.monotonic() - asked < LONGEST_ANSWER
    return answers


@pytest.mark.slow
def test_every_kind_is_closed_and_nobody_waits(server: Server) -> None:
    connections = opened(server)
    expected = {"head": 408, "behind another": 200, "refused": 413, "body": 504}
    for connection, answer in trickled(server, connections).items():
        name = connections[connection]
        if name == "silent":
            assert answer == b""
        else:
            assert status(answer) == expected[name]
        if name == "behind another":
            assert b"HTTP/1.1 408 " in answer
