"""How long a connection stays open on which nothing happens."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest
from server import Server, running
from test_bad_input import connected, status
from tiny_zoo import write_regression

pytestmark = pytest.mark.slow

UVICORNS_OWN = 5.0  # seconds, and BentoML leaves it at that
BUSY = 2.0  # seconds that a busy test machine may be late
ASK = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
OLD = b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"


def asked(connection: socket.socket, request: bytes = ASK) -> float:
    """The time of an answer."""
    connection.sendall(request)
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(65536)
    assert status(answer) == 200
    return time.monotonic()


def closed(connection: socket.socket, since: float) -> float:
    """Seconds until the service closes the connection."""
    connection.settimeout(30)
    assert connection.recv(1) == b""
    return time.monotonic() - since


def test_an_idle_connection_is_closed_after_the_setting(tmp_path: Path) -> None:
    write_regression(tmp_path / "bundles" / "regression")
    with running(tmp_path / "log", ZOO_BUNDLES=str(tmp_path / "bundles"), ZOO_KEEP_ALIVE="1.5") as server:
        for request in (ASK, OLD):
            with connected(server) as connection:
                asked(connection, request)
                time.sleep(1)
                answered = asked(connection, request)
                assert 1.4 < closed(connection, answered) < 1.5 + BUSY
        with connected(server) as connection:  # refused before its body came
            connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n")
            while not connection.recv(65536).endswith(b"}"):
                pass
            connection.sendall(b"body")
            assert 1.4 < closed(connection, time.monotonic()) < 1.5 + BUSY


def test_by_default_it_outlives_that_of_a_load_balancer(server: Server) -> None:
    with connected(server) as connection:
        asked(connection)
        time.sleep(UVICORNS_OWN + BUSY)
        asked(connection)


def test_the_end_of_the_service_closes_it_at_once(tmp_path: Path) -> None:
    write_regression(tmp_path / "bundles" / "regression")
    service = running(tmp_path / "log", ZOO_BUNDLES=str(tmp_path / "bundles"))
    with service as server, connected(server) as connection:
        asked(connection)
        os.kill(server.pid, signal.SIGTERM)
        assert closed(connection, time.monotonic()) < BUSY
