"""An answer sent in one piece is to the byte what uvicorn makes of the two messages."""

import re
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from server import free_port, wait_for
from starlette.types import Receive, Scope, Send

from serving.connection import BoundedConnection
from serving.whole_answer import send_whole

BODY = b'{"status":"alive"}'
FIELDS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
DATE = re.compile(rb"date: [^\r]*\r\n")
sent_whole: list[bool] = []


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at `/whole` in one piece where that is possible, and elsewhere by messages."""
    status = int(scope["query_string"])
    whole = scope["path"] == "/whole" and send_whole(send, status, FIELDS, BODY)
    sent_whole.append(whole)
    if not whole:
        await send({"type": "http.response.start", "status": status, "headers": FIELDS})
        await send({"type": "http.response.body", "body": BODY})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    config = uvicorn.Config(application, port=port, http=BoundedConnection, lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started, within=30)
    yield port
    server.should_exit = True
    thread.join(30)


def ask(port: int, *heads: str) -> bytes:
    """All that comes back on one connection, the last of whose requests closes it; without the date."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall("".join(f"{head}\r\nHost: localhost\r\n\r\n" for head in heads).encode())
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
    return DATE.sub(b"", answer)


@pytest.mark.parametrize(
    ("heads", "whole"),
    [
        (["GET {path}?200 HTTP/1.1\r\nConnection: close"], [True]),
        (["GET {path}?404 HTTP/1.1\r\nConnection: close"], [True]),
        (["HEAD {path}?200 HTTP/1.1\r\nConnection: close"], [False]),
        (["GET {path}?200 HTTP/1.0"], [False]),
        (["GET {path}?200 HTTP/1.1", "GET {path}?503 HTTP/1.1\r\nConnection: close"], [True, True]),
        (["HEAD {path}?200 HTTP/1.1", "GET {path}?200 HTTP/1.1\r\nConnection: close"], [False, True]),
    ],
)
def test_both_ways_send_the_same(port: int, heads: list[str], whole: list[bool]) -> None:
    by_messages = ask(port, *(head.format(path="/messages") for head in heads))
    sent_whole.clear()
    assert ask(port, *(head.format(path="/whole") for head in heads)) == by_messages
    assert sent_whole == whole
    assert by_messages.count(b"HTTP/1.1 ") == len(heads)
