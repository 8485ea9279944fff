"""Requests as bytes on a connection: what HTTP/1.1 and HTTP/1.0 allow a client to send."""

import json
import re
import shutil
import socket
import subprocess

import pytest
from requirement import require
from server import Server
from test_bad_input import connected, status
from test_errors import ROWS

pytestmark = pytest.mark.usefixtures("unharmed")

CHUNKED_ROWS = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (ROWS[:9], ROWS[9:])) + b"0\r\n\r\n"
LAST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
INNER = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
PROTOCOLS = ("h2c", "websocket", "TLS/1.0, HTTP/2.0", "x")


def told(server: Server, *pieces: bytes) -> bytes:
    """Everything that the service sends until it closes the connection, each piece sent on its own."""
    with connected(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        received = b""
        while part := connection.recv(65536):
            received += part
    return received


def statuses(answers: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answers)]


def offer(protocol: str, framing: bytes, connection: bytes = b"Upgrade, HTTP2-Settings") -> bytes:
    """The head of a request that offers another protocol."""
    return (
        b"POST /regress HTTP/1.1\r\nHost: localhost\r\nConnection: %b\r\nUpgrade: %b\r\n"
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Type: application/json\r\n%b\r\n\r\n"
    ) % (connection, protocol.encode(), framing)


def length(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("cut", ["whole", "head and body", "bytes"])
def test_an_offer_to_upgrade_changes_nothing(server: Server, protocol: str, chunked: bool, cut: str) -> None:
    head = offer(protocol, b"Transfer-Encoding: chunked" if chunked else length(ROWS))
    body = CHUNKED_ROWS if chunked else ROWS
    sent = head + body
    pieces = {
        "whole": [sent * 2 + LAST],
        "head and body": [head, body, head, body, LAST],
        "bytes": [sent[i : i + 1] for i in range(len(sent))] + [sent, LAST],
    }[cut]
    answers = told(server, *pieces)
    assert statuses(answers) == [200, 200, 200]
    assert answers.count(b'"value":6.0') == 2


def test_a_body_behind_an_offer_is_no_request(server: Server) -> None:
    answers = told(server, offer("h2c", length(INNER)), INNER, LAST)
    assert statuses(answers) == [400, 200]
    assert b"malformed_json" in answers


@pytest.mark.parametrize("apart", [False, True])
def test_an_offer_with_close_closes(server: Server, apart: bool) -> None:
    head = offer("h2c", length(ROWS), b"close, Upgrade")
    answers = told(server, head, ROWS) if apart else told(server, head + ROWS)
    assert statuses(answers) == [200]
    assert b"connection: close" in answers


def test_an_offer_without_a_body(server: Server) -> None:
    request = (
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert statuses(told(server, request + LAST)) == [200, 200]
    expecting = offer("h2c", b"Expect: 100-continue\r\n" + length(ROWS))
    assert statuses(told(server, expecting, ROWS, LAST)) == [100, 200, 200]


def test_thousands_of_offers_at_once(server: Server) -> None:
    request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    assert statuses(told(server, request * 2000 + LAST)) == [200] * 2001


@pytest.mark.parametrize("framing", [b"Content-Length: -5", b"Content-Length: 1\r\nContent-Length: 2"])
def test_a_malformed_offer_is_refused(server: Server, framing: bytes) -> None:
    answers = told(server, offer("h2c", framing) + INNER)
    assert statuses(answers) == [400]
    assert b"malformed_http" in answers


def test_a_head_without_end_that_offers(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(offer("h2c", b"X: " + b"a" * 100_000)[:-4])
        assert status(connection.recv(65536)) == 431


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"http://localhost/livez", 200),
        (b"HTTPS://localhost/livez", 200),
        (b"ftp://localhost/livez", 400),
        (b"/livez#x", 400),
        (b"/livez?x#", 400),
        (b"http://localhost/livez#x", 400),
    ],
)
def test_schemes_and_fragments(server: Server, target: bytes, expected: int) -> None:
    answers = told(server, b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % target)
    assert statuses(answers) == [expected]


@pytest.mark.parametrize("target", [b"x:1", b"/regress", b"http://x/regress", b"*"])
def test_connect_is_refused_and_nothing_behind_it_read(server: Server, target: bytes) -> None:
    head = b"CONNECT %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % (target, length(INNER))
    for pieces in ([head + INNER], [head, INNER]):
        with connected(server) as connection:
            for piece in pieces:
                connection.sendall(piece)
            answer = connection.recv(65536)
            assert statuses(answer) == [400]
            assert b"model-zoo" not in answer


def test_curl_that_offers_http2(server: Server) -> None:
    require(shutil.which("curl"), "curl")
    version = subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout
    require("HTTP2" in version, "a curl that speaks HTTP/2")
    sent = ["--data-binary", ROWS.decode(), "-H", "Content-Type: application/json"]
    for more in ([], ["-H", "Transfer-Encoding: chunked"]):
        command = ["curl", "-sS", "--max-time", "5", "--http2", *sent, *more, f"{server.url}/regress"]
        answer = subprocess.run(command, capture_output=True, check=True).stdout
        assert json.loads(answer)["predictions"] == [{"value": 6.0, "unit": "points"}]


def old(path: bytes, body: bytes = b"", *headers: bytes, version: bytes = b"1.0") -> bytes:
    """A request in HTTP/1.0."""
    lines = [b"Content-Type: application/json", length(body), *headers]
    return b"POST %b HTTP/%b\r\n%b\r\n\r\n%b" % (path, version, b"\r\n".join(lines), body)


STREAMS = {
    b"/generate_text": b'{"model": "rnn-letters", "prompt": "a", "max_tokens": 9, "stream": true}',
    b"/v1/completions": b'{"model": "rnn-letters", "prompt": "a", "max_tokens": 9, "stream": true}',
    b"/v2/models/rnn-letters/generate_stream": b'{"text_input": "a", "max_tokens": 9}',
}
EVENT = re.compile(rb"(data: [^\n]+\n\n)+")


@pytest.mark.parametrize("path", STREAMS)
@pytest.mark.parametrize("headers", [(), (b"Connection: keep-alive",), (b"Expect: 100-continue",)])
def test_a_stream_in_http_1_0_ends_where_the_connection_closes(
    server: Server, path: bytes, headers: tuple[bytes, ...]
) -> None:
    head, _, events = told(server, old(path, STREAMS[path], *headers)).partition(b"\r\n\r\n")
    assert status(head) == 200
    fields = {line.partition(b":")[0].strip().lower() for line in head.splitlines()[1:]}
    assert not fields & {b"transfer-encoding", b"content-length"}
    assert head.endswith(b"connection: close")
    assert EVENT.fullmatch(events)
    assert events.count(b"data: ") >= 2


def test_answers_in_http_1_0_keep_the_connection_where_they_are_asked_to(server: Server) -> None:
    kept = old(b"/regress", ROWS, b"Connection: keep-alive")
    answers = told(server, kept, kept + kept, b"GET /livez HTTP/1.0\r\n\r\n" + kept)
    assert statuses(answers) == [200] * 4
    assert answers.count(b"connection: keep-alive") == 3
    assert answers.count(b"connection: close") == 1
    assert answers.count(b"content-length: ") == 4
    refused = told(server, old(b"/nothing", b"", b"Connection: keep-alive") + old(b"/regress", ROWS))
    assert statuses(refused) == [404, 200]


def test_in_http_1_0_other_answers_close(server: Server) -> None:
    for headers in ((), (b"Connection: close",)):
        answers = told(server, old(b"/regress", ROWS, *headers) + LAST)
        assert statuses(answers) == [200]
        assert b"connection: close" in answers
    page = told(server, b"GET / HTTP/1.0\r\n\r\n")
    assert status(page) == 200
    assert b"transfer-encoding" not in page
    assert page.rstrip().endswith(b">")
    head = told(server, b"HEAD /models HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + old(b"/regress", ROWS))
    assert statuses(head) == [200, 200]


def test_chunks_in_http_1_0_are_read_and_the_connection_closed(server: Server) -> None:
    head = b"POST /regress HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    answers = told(server, head + CHUNKED_ROWS + LAST)
    assert statuses(answers) == [200]
    assert b"connection: close" in answers


def test_a_stream_in_http_1_1_comes_in_chunks(server: Server) -> None:
    path = b"/generate_text"
    answer = told(server, old(path, STREAMS[path], b"Host: localhost", version=b"1.1") + LAST)
    assert statuses(answer) == [200, 200]
    assert b"transfer-encoding: chunked" in answer
