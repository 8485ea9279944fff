"""No request leaves a reference cycle: what it made is freed by reference counts alone.

A body has up to 32 MB, and the collector may come after thousands of requests. Here it is switched off, and
whatever it would have had to free is a failure.
"""

import base64
import collections
import gc
import gzip
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image
from server import free_port, is_ready, wait_for
from starlette.types import Receive, Scope, Send
from test_conversations_at_once import write_tiny
from tiny_zoo import (
    write_classification,
    write_copier,
    write_forecaster,
    write_generator,
    write_images,
    write_regression,
    write_writer,
)

from serving.application import Application
from serving.connection import BoundedConnection
from serving.settings import Settings

TIMES = 3
LARGE = 20_000
"""Bytes of an object that a request may have brought."""
JSON, FORM = "application/json", "multipart/form-data; boundary=XX"
SECONDS = 30


@dataclass(frozen=True)
class Client:
    """Sends raw requests, so that nothing in this process but the service can leave cycles."""

    port: int

    def send(self, request: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)
        connection.sendall(request)
        return connection

    def ask(self, request: bytes) -> int:
        """The status, once the answer has come to its end."""
        with self.send(request) as connection:
            answer = b""
            # A service that answers before it has the whole body resets the connection when it closes it.
            with suppress(ConnectionResetError):
                while part := connection.recv(1 << 16):
                    answer += part
        return int(answer.split(b" ", 2)[1])


def post(path: str, body: object, media_type: str = JSON, *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = ["Host: 127.0.0.1", "Connection: close", f"Content-Type: {media_type}", *headers]
    head = [f"POST {path} HTTP/1.1", *fields, f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join(head).encode() + content


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()


def png(side: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def form(image: bytes) -> bytes:
    disposition = b"Content-Disposition: form-data; name="
    return (
        b"--XX\r\n" + disposition + b'"model"\r\n\r\nlenet5-mnist\r\n'
        b"--XX\r\n" + disposition + b'"image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    ) + image + b"\r\n--XX--\r\n"  # fmt: skip


def json_image(image: bytes, model: str = "lenet5-mnist") -> bytes:
    return json.dumps({"model": model, "image": base64.b64encode(image).decode()}).encode()


def tensors(missing: int = 0) -> bytes:
    """V2's binary request of 400 images, with so many bytes too few."""
    head = {
        "inputs": [
            {
                "name": "image",
                "datatype": "UINT8",
                "shape": [400, 8, 8, 1],
                "parameters": {"binary_data_size": 25600},
            }
        ]
    }
    text = json.dumps(head).encode()
    length = f"Inference-Header-Content-Length: {len(text)}"
    body = text + bytes(25600 - missing)
    return post("/v2/models/lenet5-mnist/infer", body, "application/octet-stream", length)


BIG = png(150)  # 68 kB
WRITE = {"model": "rnn-letters", "prompt": "abc", "max_tokens": 8}
TALK = {"model": "llama-talk", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
LONG = {"model": "llama-talk", "prompt": "abc", "max_tokens": 400, "logit_bias": {"259": -100}}
OBJECT = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
ASKED: dict[str, tuple[bytes, int]] = {
    "live": (get("/livez"), 200),
    "models": (get("/models"), 200),
    "one model": (get("/models/lenet5-mnist"), 200),
    "metrics": (get("/metrics"), 200),
    "docs": (get("/docs.json"), 200),
    "V2 statistics": (get("/v2/models/stats"), 200),
    "HTTP/1.0": (get("/models").replace(b"HTTP/1.1", b"HTTP/1.0"), 200),
    "events in HTTP/1.0": (
        post("/generate_text", {**WRITE, "stream": True}).replace(b"HTTP/1.1", b"HTTP/1.0"),
        200,
    ),
    "an offer to upgrade": (
        post("/classify_image", json_image(BIG), JSON, "Upgrade: h2c").replace(b"close", b"Upgrade, close"),
        200,
    ),
    "a form cut short": (post("/classify_image", form(BIG)[:-4], FORM), 400),
    "no such path": (post("/nothing", json_image(BIG)), 404),
    "wrong method": (post("/models", json_image(BIG)), 405),
    "rows": (post("/regress", {"model": "diabetes", "rows": [[1, 2]]}), 200),
    "wrong rows": (post("/regress", {"model": "diabetes", "rows": [[1, 2, 3]] * 2000}), 422),
    "classify": (post("/classify", {"model": "perceptron-iris", "rows": [[1, 2]]}), 200),
    "forecast": (post("/forecast", {"model": "sales", "history": list(range(24))}), 200),
    "image": (post("/classify_image", json_image(png(28))), 200),
    "beyond the range": (post("/regress", {"model": "diabetes", "rows": [[3e38, 3e38]]}), 422),
    "large image": (post("/classify_image", json_image(BIG)), 200),
    "large image in a form": (post("/classify_image", form(BIG), FORM), 200),
    "large image, gzip": (
        post("/classify_image", gzip.compress(json_image(BIG)), JSON, "Content-Encoding: gzip"),
        200,
    ),
    "pixels": (
        post("/classify_image", {"model": "lenet5-mnist", "pixels": [[[0] * 8] * 8] * 400}),
        200,
    ),
    "heat map": (post("/explain_image", json_image(BIG)), 200),
    "unknown model": (post("/classify_image", json_image(BIG, "nothing")), 404),
    "no image": (post("/classify_image", json_image(BIG[100:])), 422),
    "malformed JSON": (post("/classify_image", json_image(BIG)[:-5]), 400),
    "wrong endpoint": (post("/regress", json_image(BIG)), 422),
    "media type": (post("/classify_image", json_image(BIG), "text/plain"), 415),
    "malformed form": (post("/classify_image", b"x" + form(BIG), FORM), 400),
    "bad gzip": (post("/classify_image", json_image(BIG), JSON, "Content-Encoding: gzip"), 400),
    "late": (post("/classify_image", json_image(BIG), JSON, "X-Request-Timeout: 0"), 504),
    "bad header": (post("/classify_image", json_image(BIG), JSON, "X-Request-Timeout: soon"), 400),
    "V2 in binary": (tensors(), 200),
    "V2 cut short": (tensors(missing=3), 400),
    "V2 unknown": (post("/v2/models/nothing/infer", json_image(BIG)), 404),
    "text": (post("/generate_text", WRITE), 200),
    "text in events": (post("/generate_text", {**WRITE, "stream": True}), 200),
    "late text": (post("/generate_text", WRITE, JSON, "X-Request-Timeout: 0"), 504),
    "wrong text": (post("/generate_text", {**WRITE, "prompt": "\0" * 30_000}), 422),
    "transformed": (post("/transform_text", {"model": "transformer-echo", "text": ["ab", "a"]}), 200),
    "not transformed": (post("/transform_text", {"model": "transformer-echo", "text": []}), 422),
    "generated images": (post("/generate_images", {"model": "gan-mnist", "count": 4}), 200),
    "V2 text": (post("/v2/models/rnn-letters/generate", {"text_input": "abc", "max_tokens": 3}), 200),
    "V2 events": (
        post("/v2/models/rnn-letters/generate_stream", {"text_input": "abc", "max_tokens": 3}),
        200,
    ),
    "chat": (post("/v1/chat/completions", TALK), 200),
    "chat in events": (post("/v1/chat/completions", {**TALK, "stream": True, "n": 3}), 200),
    "JSON": (post("/v1/chat/completions", {**TALK, "response_format": OBJECT}), 200),
    "completions": (post("/v1/completions", {**WRITE, "n": 2, "logprobs": 2}), 200),
    "bad parameter": (post("/v1/completions", {**WRITE, "nothing": 1}), 400),
    "unknown writer": (post("/v1/completions", {**WRITE, "model": "x", "prompt": "a" * 60_000}), 404),
    "too long": (post("/v1/completions", {**LONG, "prompt": "a" * 60_000}), 400),
    "cut at the deadline": (post("/v1/completions", LONG, JSON, "X-Request-Timeout: 0.05"), 200),
    "events cut": (
        post("/v1/completions", {**LONG, "stream": True}, JSON, "X-Request-Timeout: 0.05"),
        200,
    ),
}


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    """In BentoML's place: begins and ends with the server."""
    for state in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{state}.complete"})


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The application behind uvicorn, in a thread of this process, whose collector is switched off."""
    bundles: Path = tmp_path_factory.mktemp("bundles")
    for number, write in enumerate(
        (
            write_regression,
            write_classification,
            write_images,
            write_generator,
            write_forecaster,
            write_writer,
            write_copier,
            write_tiny,
        )
    ):
        write(bundles / str(number))
    port = free_port()
    application = Application(page, Settings(bundles=bundles, poll=5))
    config = uvicorn.Config(application, port=port, http=BoundedConnection, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: is_ready(f"http://127.0.0.1:{port}/readyz"), within=SECONDS)
    wait_for(lambda: application._follower.catalogue is not None, within=SECONDS)
    gc.collect()
    gc.freeze()  # what there is now is not looked at again and again
    yield Client(port)
    gc.unfreeze()
    server.should_exit = True
    thread.join(SECONDS)


def left_behind(ask: Callable[[], Any]) -> collections.Counter[str]:
    """Counts what only the collector frees after a few requests: own objects, tasks, errors, buffers."""
    ask()  # makes what is made once
    time.sleep(0.05)
    gc.collect()
    gc.disable()
    for _ in range(TIMES):
        ask()
    time.sleep(0.05)
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    garbage, found = list(gc.garbage), collections.Counter[str]()
    gc.garbage.clear()
    for one in garbage:
        kind = type(one)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name.startswith(("serving.", "zoo.", "uvicorn.", "_asyncio.", "asyncio.")):
            found[name] += 1
        elif isinstance(one, BaseException) or kind.__name__ in ("coroutine", "frame", "async_generator"):
            found[f"{name} {getattr(one, '__qualname__', one)}"[:90]] += 1
        for held in gc.get_referents(one):
            size = getattr(held, "nbytes", None) or (
                len(held) if isinstance(held, str | bytes | bytearray) else 0
            )
            if isinstance(size, int) and size > LARGE:
                found[f"{type(held).__name__} of {size} bytes"] += 1
    gc.enable()
    return found


@pytest.mark.parametrize("name", ASKED)
def test_nothing_is_left(client: Client, name: str) -> None:
    request, status = ASKED[name]
    assert client.ask(request) == status
    assert not left_behind(lambda: client.ask(request))


def test_a_client_that_leaves(client: Client) -> None:
    def leave(request: bytes, seconds: float) -> None:
        connection = client.send(request)
        time.sleep(seconds)
        connection.close()
        time.sleep(0.2)

    upload = post("/classify_image", form(BIG), FORM)
    assert not left_behind(lambda: leave(upload[:-20], 0.02))
    assert not left_behind(lambda: leave(upload, 0))
    for streamed in (False, True):
        writing = post("/v1/completions", {**LONG, "stream": streamed, "n": 2})
        assert not left_behind(lambda w=writing: leave(w, 0.05))


def test_the_probe_finds_a_cycle() -> None:
    def leave_one() -> None:
        holder: list[object] = [bytes(2 * LARGE)]
        holder.append(holder)

    assert left_behind(leave_one)[f"bytes of {2 * LARGE} bytes"] == TIMES
