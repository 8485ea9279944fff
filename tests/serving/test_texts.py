"""`/generate_text` through the real service: as a whole, as server-sent events, and what ends it."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import bentoml
import httpx
import pytest
from server import Server, running
from tiny_zoo import LETTERS, TinyRegistry, write_writer

from zoo.cli import main

MODEL = "rnn-letters"
HEADERS = ("x-zoo-model", "x-zoo-version", "x-zoo-run-id", "x-zoo-digest", "x-zoo-provider")
GREEDY = {"model": MODEL, "prompt": "abc", "temperature": 0, "max_tokens": 12}


def ask(client: httpx.Client, **fields: object) -> httpx.Response:
    return client.post("/generate_text", json={**GREEDY, **fields})


def events(client: httpx.Client, **fields: object) -> list[str]:
    with client.stream("POST", "/generate_text", json={**GREEDY, "stream": True, **fields}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["x-request-id"]
        assert response.headers[HEADERS[0]] == MODEL
        text = response.read().decode()
    assert text.endswith("\n\n")
    blocks = text.removesuffix("\n\n").split("\n\n")
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [block.removeprefix("data: ") for block in blocks]


def test_json(client: httpx.Client) -> None:
    response = ask(client)
    assert response.status_code == 200
    body = response.json()
    assert body.keys() == {"text", "finish_reason", "usage", "lineage"}
    assert body["text"] == "defghij\nabcd"
    assert body["finish_reason"] == "length"
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 12, "total_tokens": 15}
    assert body["lineage"]["model"] == MODEL
    assert not set(HEADERS) & set(response.headers)


def test_the_data_set_s_name_answers(client: httpx.Client) -> None:
    assert ask(client, model="letters").json() == ask(client).json()


def test_events(client: httpx.Client) -> None:
    *pieces, ended, done = events(client)
    assert done == "[DONE]"
    assert "".join(json.loads(piece)["text"] for piece in pieces) == "defghij\nabcd"
    assert all(json.loads(piece).keys() == {"text"} for piece in pieces)
    assert json.loads(ended) == {
        "text": "",
        "finish_reason": "length",
        "usage": {"prompt_tokens": 3, "completion_tokens": 12, "total_tokens": 15},
    }


@pytest.mark.parametrize(
    "fields", [{"stop": "j\na"}, {"stop": ["xy", "gh"]}, {"seed": 4, "temperature": 1.5}]
)
def test_events_are_the_same_text(client: httpx.Client, fields: dict) -> None:
    whole = ask(client, max_tokens=60, **fields).json()
    *pieces, ended, _ = events(client, max_tokens=60, **fields)
    assert "".join(json.loads(piece)["text"] for piece in pieces) == whole["text"]
    assert json.loads(ended)["finish_reason"] == whole["finish_reason"]


def test_the_same_seed_gives_the_same_text(client: httpx.Client) -> None:
    def write(seed: int | None) -> str:
        return ask(client, temperature=2, max_tokens=50, seed=seed).json()["text"]

    assert write(3) == write(3)
    assert len({write(3), write(4), write(None), write(None)}) == 4


def test_empty_and_unknown(client: httpx.Client) -> None:
    assert ask(client, prompt="", max_tokens=3).json()["text"] == "abc"
    body = ask(client, prompt="€ 日本 \x00 a", max_tokens=3).json()
    assert body["text"] == "bcd"
    assert body["usage"]["prompt_tokens"] == 8


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": 4097}, "4096"),
        ({"prompt": "a" * 8193}, "8193 tokens; at most 8192"),
        ({"prompt": "a" * 65_537}, "65536"),
        ({"prompt": None}, "either prompt or messages"),
        ({"prompt": None, "messages": [{"role": "user", "content": "hi"}]}, "give a prompt"),
        ({"stop": "x" * 300}, "stop: String should have at most 256 characters"),
        ({"temperature": "hot"}, "temperature"),
        ({"echo": True}, "echo"),
        ({"model": "lenet5-mnist"}, "POST to /classify_image"),
    ],
)
def test_what_does_not_fit(client: httpx.Client, fields: dict, words: str, streamed: bool) -> None:
    response = ask(client, stream=streamed, **fields)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/json"
    assert words in response.json()["error"]


def test_bentoml_s_client(server: Server) -> None:
    with bentoml.SyncHTTPClient(server.url) as client:
        assert client.generate_text(**GREEDY)["text"] == "defghij\nabcd"
        client._temp_dir.cleanup()  # which it leaves to the garbage collector, and that warns


def test_many_texts_at_once(server: Server) -> None:
    texts: dict[int, str] = {}

    def write(start: int) -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            prompt = LETTERS[start % 11]
            texts[start] = prompt + ask(client, prompt=prompt, max_tokens=300).json()["text"]

    threads = [threading.Thread(target=write, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 12
    for start, text in texts.items():
        assert text == (LETTERS * 40)[start % 11 :][:301]


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A step takes some milliseconds, and one text is written at a time."""
    registry = TinyRegistry(tmp_path_factory.mktemp("home"))
    registry.promote(MODEL, registry.register(write_writer(tmp_path_factory.mktemp("made") / "w", slow=500)))
    log = tmp_path_factory.mktemp("log") / "server.log"
    with running(log, ZOO_HOME=str(registry.home), ZOO_GENERATIONS="1", ZOO_QUEUE="0") as server:
        yield server


def begin(client: httpx.Client, **fields: object) -> tuple[httpx.Response, Iterator[str]]:
    """A long text, of which the first event has come, and the lines that follow."""
    body = {**GREEDY, "max_tokens": 4096, "stream": True, **fields}
    response = client.send(client.build_request("POST", "/generate_text", json=body), stream=True)
    assert response.status_code == 200
    lines = response.iter_lines()
    next(lines)
    return response, lines


def test_no_more_texts_than_may_be_written(slow_server: Server) -> None:
    with httpx.Client(base_url=slow_server.url, timeout=30) as client:
        begun, _ = begin(client)
        refused = ask(client, max_tokens=1)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert client.get("/models").status_code == 200
        begun.close()


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_stops_the_writing(slow_server: Server, streamed: bool) -> None:
    with httpx.Client(base_url=slow_server.url, timeout=30) as client:
        if streamed:
            begin(client)[0].close()
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/generate_text", json={**GREEDY, "max_tokens": 4096}, timeout=0.5)
        end = time.monotonic() + 3  # the whole text would take far longer
        while (response := ask(client, max_tokens=1)).status_code == 503 and time.monotonic() < end:
            time.sleep(0.05)
        assert response.status_code == 200


def test_a_text_that_has_begun_ends_at_its_deadline(slow_server: Server) -> None:
    with httpx.Client(base_url=slow_server.url, timeout=30) as client:
        client.headers["X-Request-Timeout"] = "0.5"
        begun = time.monotonic()
        cut = ask(client, max_tokens=4096)
        assert 0.5 <= time.monotonic() - begun < 2
        assert cut.status_code == 200
        answer = cut.json()
        assert answer["finish_reason"] == "length"
        assert len(answer["text"]) == answer["usage"]["completion_tokens"] > 1
        streamed, lines = begin(client)
        *_, last, done = [line for line in lines if line]
        assert json.loads(last.removeprefix("data: "))["finish_reason"] == "length"
        assert done == "data: [DONE]"
        streamed.close()


def test_a_text_that_has_not_begun_by_its_deadline_is_refused(slow_server: Server) -> None:
    with httpx.Client(base_url=slow_server.url, timeout=30) as client:
        late = client.post("/generate_text", json=GREEDY, headers={"X-Request-Timeout": "0"})
        assert late.status_code == 504


def test_zoo_write(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["write", MODEL, "abc", "--url", server.url, "--temperature", "0", "--max-tokens", "30"]
    main([*words, "--stop", "b", "f"])
    assert capsys.readouterr().out == "abcde\n"


def test_zoo_write_says_what_is_wrong(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["lenet5-mnist"], "is no language model"),
        ([MODEL, "a" * 9000], "at most 8192"),
        ([MODEL, "--max-tokens", "0"], "max_tokens"),
        (["nobody"], "no model answers"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["write", *words, "--url", server.url])
        assert ended.value.code == 1
        assert message in capsys.readouterr().err


def test_a_bundle_that_lost_its_tokenizer_is_refused(tmp_path: Path) -> None:
    from zoo import bundle
    from zoo.errors import BundleError

    made = write_writer(tmp_path / "made")
    assert made.manifest.files.keys() >= {"tokenizer.json", "model.onnx"}
    assert "tokenizer" not in json.loads(made.read_text("task.json"))
    (made.directory / "tokenizer.json").unlink()
    with pytest.raises(BundleError):
        bundle.load(made.directory)
