"""The key goes to the host that the user named, and no further."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from zoo.errors import ZooError
from zoo.service_client import events, fetch


class Handler(BaseHTTPRequestHandler):
    """Redirects each path, a status, to the same server under another name."""

    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.server.keys.append(self.headers["Authorization"])
            self.send_response(200)
        else:
            self.send_response(int(self.path[1:]))
            self.send_header("Location", f"http://localhost:{self.server.server_port}/elsewhere")
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def redirecting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("ZOO_API_KEY", "secret")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.keys = []
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("body", [None, {"x": 1}], ids=["get", "post"])
def test_a_redirect_is_an_error_that_says_where_it_points(
    redirecting: Any, status: int, body: dict[str, int] | None
) -> None:
    url = f"http://127.0.0.1:{redirecting.server_port}/{status}"
    with pytest.raises(ZooError, match=rf"redirects to http://localhost:{redirecting.server_port}/elsewhere"):
        fetch(url, body) if body is None else list(events(url, body))
    assert redirecting.keys == []
