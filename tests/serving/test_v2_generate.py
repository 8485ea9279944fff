"""Triton's `generate` and `generate_stream`: a text in, a text out, as a whole or as events."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest
from server import Server, running
from tiny_zoo import TinyRegistry, write_writer

WRITER = "/v2/models/rnn-letters"
GREEDY = {"max_tokens": 6, "temperature": 0.0}
LINEAGE = {"model", "version", "run_id", "digest", "provider"}


def events(response: httpx.Response) -> list[dict]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-zoo-model"]
    assert response.headers["x-zoo-version"] == "1"
    parts = response.text.split("\n\n")
    assert parts.pop() == ""
    return [json.loads(part.removeprefix("data: ")) for part in parts]


@pytest.mark.parametrize("version", ["", "/versions/1", "/versions/champion"])
@pytest.mark.parametrize(
    "body",
    [
        {"text_input": "abc", **GREEDY},
        {"text_input": "abc", "parameters": GREEDY},
        {
            "id": "mine",
            "text_input": "abc",
            "max_tokens": 6,
            "parameters": {"temperature": 0, "timeout": 20_000_000},
        },
        {"text_input": "abc", "parameters": {**GREEDY, "max_tokens": 99, "stop": ["j"]}},
    ],
    ids=str,
)
def test_parameters_flat_and_nested(client: httpx.Client, version: str, body: dict) -> None:
    whole = client.post(f"{WRITER}{version}/generate", json=body).json()
    assert set(whole.pop("parameters")) == LINEAGE
    assert whole == {"model_name": "rnn-letters", "model_version": "1", "text_output": "defghi"}
    pieces = events(client.post(f"{WRITER}{version}/generate_stream", json=body))
    assert all(piece.keys() == {"model_name", "model_version", "text_output"} for piece in pieces)
    assert "".join(piece["text_output"] for piece in pieces) == "defghi"


def test_a_text_to_another(client: httpx.Client) -> None:
    body = {"text_input": "one two", "beam_size": 2}
    path = "/v2/models/transformer-echo"
    assert client.post(f"{path}/generate", json=body).json()["text_output"] == "one two"
    assert [e["text_output"] for e in events(client.post(f"{path}/generate_stream", json=body))] == [
        "one two"
    ]


def test_a_limit_shortens_a_text(client: httpx.Client) -> None:
    text, path = "one two three four five six", "/v2/models/transformer-echo"
    cut = client.post("/transform_text", json={"model": "transformer-echo", "text": text, "max_tokens": 4})
    expected = cut.json()["texts"][0]
    assert len(expected) < len(text)
    for asked in ({"max_tokens": 4}, {"parameters": {"max_tokens": 4}}):
        body = {"text_input": text, **asked}
        assert client.post(f"{path}/generate", json=body).json()["text_output"] == expected
        assert events(client.post(f"{path}/generate_stream", json=body))[-1]["text_output"] == expected
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": [text]}
    infer = client.post(f"{path}/infer", json={"inputs": [tensor], "parameters": {"max_tokens": 4}})
    assert infer.json()["outputs"][0]["data"] == [expected]
    refused = client.post(f"{path}/generate", json={"text_input": text, "max_tokens": 0})
    assert refused.status_code == 400
    assert "max_tokens" in refused.json()["error"]


def test_a_text_of_nothing(client: httpx.Client) -> None:
    body = {"text_input": "abc", **GREEDY, "stop": "d"}
    assert client.post(f"{WRITER}/generate", json=body).json()["text_output"] == ""
    assert [e["text_output"] for e in events(client.post(f"{WRITER}/generate_stream", json=body))] == [""]


@pytest.mark.parametrize("place", ["flat", "nested"])
def test_stream_is_said_by_the_path(client: httpx.Client, place: str) -> None:
    for path, right in (("generate", False), ("generate_stream", True)):
        for stream in (False, True):
            said = {"stream": stream} if place == "flat" else {"parameters": {"stream": stream}}
            response = client.post(f"{WRITER}/{path}", json={"text_input": "a", **GREEDY, **said})
            assert response.status_code == (200 if stream is right else 400)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "text_input"),
        ({"text_input": None}, "text_input"),
        ({"text_input": ["a"]}, "text_input"),
        ({"text_input": "a", "parameters": []}, "parameters"),
        ({"text_input": "a", "seed": 1, "parameters": {"seed": 2}}, "seed is given twice"),
        ({"text_input": "a", "parameters": {"timeout": "soon"}}, "timeout"),
        ({"text_input": "a" * 65_537}, "prompt"),
        ({"text_input": "a", "messages": []}, "messages"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("path", ["generate", "generate_stream"])
def test_what_does_not_fit(client: httpx.Client, path: str, body: dict, words: str) -> None:
    response = client.post(f"{WRITER}/{path}", json=body)
    assert response.status_code == 400, response.text
    assert response.json().keys() == {"error"}
    assert words in response.json()["error"]


@pytest.mark.parametrize("path", ["generate", "generate_stream", "infer"])
def test_past_the_deadline(client: httpx.Client, path: str) -> None:
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    body = {"inputs": [tensor]} if path == "infer" else {"text_input": "a"}
    response = client.post(f"{WRITER}/{path}", json={**body, "parameters": {"timeout": 1}})
    assert response.status_code == 504
    assert response.json().keys() == {"error"}


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A step takes some milliseconds, and one text is written at a time."""
    registry = TinyRegistry(tmp_path_factory.mktemp("home"))
    made = write_writer(tmp_path_factory.mktemp("made") / "writer", slow=500)
    registry.promote("rnn-letters", registry.register(made))
    log = tmp_path_factory.mktemp("log") / "server.log"
    with running(log, ZOO_HOME=str(registry.home), ZOO_GENERATIONS="1", ZOO_QUEUE="0") as server:
        yield server


@pytest.mark.parametrize("path", ["generate", "generate_stream", "infer"])
def test_a_client_that_leaves_ends_the_writing(slow_server: Server, path: str) -> None:
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    asked = {"inputs": [tensor]} if path == "infer" else {"text_input": "a"}
    body = {**asked, "parameters": {**GREEDY, "max_tokens": 4096}}
    short = {"text_input": "a", **GREEDY, "max_tokens": 1}
    with httpx.Client(base_url=slow_server.url, timeout=30) as client:
        if path == "generate_stream":
            with client.stream("POST", f"{WRITER}/{path}", json=body) as response:
                lines = response.iter_lines()  # which would close the connection if nobody held it
                assert "text_output" in next(lines)
                assert client.post(f"{WRITER}/generate", json=short).status_code == 503
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(f"{WRITER}/{path}", json=body, timeout=0.5)
        end = time.monotonic() + 3  # the whole text would take far longer
        while (again := client.post(f"{WRITER}/generate", json=short)).status_code == 503:
            assert time.monotonic() < end
        assert again.status_code == 200


def test_a_stream_that_has_begun_ends_at_its_deadline(slow_server: Server) -> None:
    body = {"text_input": "a", "parameters": {**GREEDY, "max_tokens": 4096, "timeout": 500_000}}
    with httpx.Client(base_url=slow_server.url, timeout=30) as client:
        *pieces, last = events(client.post(f"{WRITER}/generate_stream", json=body))
        assert pieces
        assert all("text_output" in piece for piece in (*pieces, last))


def test_texts_that_were_written_by_the_deadline_are_kept(slow_server: Server) -> None:
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [2], "data": ["a", "a"]}
    body = {"inputs": [tensor], "parameters": {**GREEDY, "max_tokens": 4096, "timeout": 500_000}}
    with httpx.Client(base_url=slow_server.url, timeout=30) as client:
        response = client.post(f"{WRITER}/infer", json=body)
    assert response.status_code == 200
    first, second = response.json()["outputs"][0]["data"]
    assert first
    assert second == ""
