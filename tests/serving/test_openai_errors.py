"""What OpenAI's API refuses: the field that is wrong, the client's exceptions, overload, keys, leaving."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from server import Server, running
from tiny_zoo import write_images, write_talker, write_writer

LETTERS, TALK = "rnn-letters", "rnn-reply"
ASKED = [{"role": "user", "content": "hello"}]
KEY = "the-key-of-the-tests"
PATHS = ("/v1/completions", "/v1/chat/completions")


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("writers")
    for write in (write_writer, write_talker, write_images):
        write(folder / "bundles" / write.__name__)
    with running(folder / "log", ZOO_BUNDLES=str(folder / "bundles"), ZOO_API_KEYS=KEY) as server:
        yield server


@pytest.fixture
def raw(writers: Server) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=writers.url, headers=headers, timeout=30) as client:
        yield client


def refused(client: httpx.Client, path: str, body: dict, status: int = 400) -> dict[str, Any]:
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"error"}
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error


INVALID, UNSUPPORTED = "invalid_value", "unsupported_parameter"
BOTH: list[tuple[dict, str, str]] = [
    ({"temperature": 2.1}, "temperature", INVALID),
    ({"temperature": "hot"}, "temperature", INVALID),
    ({"top_p": -0.1}, "top_p", INVALID),
    ({"n": 0}, "n", INVALID),
    ({"n": 17}, "n", INVALID),
    ({"n": True}, "n", INVALID),
    ({"max_tokens": 0}, "max_tokens", INVALID),
    ({"max_tokens": 5000}, "max_tokens", INVALID),
    ({"max_tokens": 1.5}, "max_tokens", INVALID),
    ({"stop": ""}, "stop", INVALID),
    ({"stop": ["x", ""]}, "stop[1]", INVALID),
    ({"stop": ["x"] * 17}, "stop", INVALID),
    ({"seed": 2**63}, "seed", INVALID),
    ({"presence_penalty": 3}, "presence_penalty", INVALID),
    ({"frequency_penalty": -3}, "frequency_penalty", INVALID),
    ({"logit_bias": {"99999": 1}}, "logit_bias", INVALID),
    ({"logit_bias": {"a": 1}}, "logit_bias.a", INVALID),
    ({"logit_bias": {"1": 101}}, "logit_bias.1", INVALID),
    ({"stream": "yes"}, "stream", INVALID),
    ({"stream_options": {"include_usage": True}}, "stream_options", INVALID),
    ({"response_format": {"type": "xml"}}, "response_format.type", INVALID),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", INVALID),
    ({"model": None}, "model", "missing_required_parameter"),
    ({"tools": [{}]}, "tools", UNSUPPORTED),
    ({"audio": {"voice": "alloy"}}, "audio", UNSUPPORTED),
    ({"modalities": ["text", "audio"]}, "modalities", UNSUPPORTED),
    ({"suffix": "x"}, "suffix", UNSUPPORTED),
    ({"temprature": 1}, "temprature", "unknown_parameter"),
]
COMPLETIONS: list[tuple[dict, str, str]] = [
    ({"prompt": None}, "prompt", "missing_required_parameter"),
    ({"prompt": []}, "prompt", INVALID),
    ({"prompt": [[]]}, "prompt[0]", INVALID),
    ({"prompt": [1, "a"]}, "prompt[0]", INVALID),
    ({"prompt": [1, 99_999]}, "prompt", INVALID),
    ({"prompt": [-1]}, "prompt", INVALID),
    ({"prompt": ["a"] * 17}, "prompt", INVALID),
    ({"prompt": "a" * 8193}, "prompt", "context_length_exceeded"),
    ({"prompt": "a" * 70_000}, "prompt", "context_length_exceeded"),
    ({"model": TALK, "max_tokens": 300}, "prompt", "context_length_exceeded"),
    ({"logprobs": 6}, "logprobs", INVALID),
    ({"logprobs": 1, "echo": True}, "logprobs", UNSUPPORTED),
    ({"best_of": 2}, "best_of", UNSUPPORTED),
    ({"response_format": {"type": "json_object"}}, "response_format", INVALID),
]
CHAT: list[tuple[dict, str, str]] = [
    ({"messages": None}, "messages", "missing_required_parameter"),
    ({"messages": []}, "messages", INVALID),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
    ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role", INVALID),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content[0].type",
        INVALID,
    ),
    (
        {"messages": [*ASKED, {"role": "assistant", "content": "", "tool_calls": [{}]}]},
        "messages[1].tool_calls",
        UNSUPPORTED,
    ),
    ({"messages": [{"role": "user", "content": "a" * 300}]}, "messages", "context_length_exceeded"),
    ({"max_tokens": 295}, "messages", "context_length_exceeded"),
    ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", INVALID),
    ({"top_logprobs": 3}, "top_logprobs", INVALID),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", INVALID),
    ({"logprobs": 3}, "logprobs", INVALID),
    ({"model": LETTERS}, "model", "no_chat_template"),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("path", "fields", "param", "code"),
    [
        *((path, *case) for path in PATHS for case in BOTH),
        *((PATHS[0], *case) for case in COMPLETIONS),
        *((PATHS[1], *case) for case in CHAT),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_does_not_fit(
    raw: httpx.Client, path: str, fields: dict, param: str, code: str, streamed: bool
) -> None:
    plain = {"model": LETTERS, "prompt": "abc"} if path == PATHS[0] else {"model": TALK, "messages": ASKED}
    if streamed and "stream_options" in fields:
        return  # which is then right
    error = refused(raw, path, {**plain, "stream": streamed, **fields})
    assert (error["param"], error["code"]) == (param, code), error["message"]
    assert len(error["message"]) < 300


def test_prompts_are_counted_before_they_are_made_tokens(raw: httpx.Client) -> None:
    begun = time.monotonic()
    error = refused(raw, PATHS[0], {"model": LETTERS, "prompt": ["ab " * 21_845] * 120})
    assert error["param"] == "prompt"
    assert "120 texts" in error["message"]
    assert time.monotonic() - begun < 3  # 20 s and more with their tokens


def test_a_prompt_is_refused_by_its_beginning(raw: httpx.Client) -> None:
    begun = time.monotonic()
    for prompt in (["ab " * 21_845] * 16, [["a"]] * 2, [[1] * 60_000]):
        error = refused(raw, PATHS[0], {"model": LETTERS, "prompt": prompt})
        assert error["param"].startswith("prompt")
    assert time.monotonic() - begun < 2


MULTIPLES = b'{"allOf":[%b]}' % b",".join(b'{"multipleOf":%d}' % number for number in (31, 37, 41, 43))


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        *((b'{"a":' * depth + b"1" + b"}" * depth, "levels deep") for depth in (65, 900, 1010)),
        (b'{"type":"integer","multipleOf":99999989}', "multipleOf"),
        (b'{"type":"integer","multipleOf":true}', "no schema to write by"),
        (MULTIPLES, "too much to compile"),
        (b'{"not":{}}', "no schema to write by"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_schemas_that_take_much(raw: httpx.Client, schema: bytes, words: str) -> None:
    wanted = b'{"type":"json_schema","json_schema":{"name":"a","schema":%b}}' % schema
    body = b'{"model":"%b","prompt":"a","response_format":%b}' % (LETTERS.encode(), wanted)
    begun = time.monotonic()
    answer = raw.post(PATHS[0], content=body, headers={"Content-Type": "application/json"})
    assert time.monotonic() - begun < 5
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "response_format.json_schema.schema"
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", PATHS)
def test_models_that_are_none(raw: httpx.Client, path: str) -> None:
    for name, words in (("nobody", "no model answers"), ("lenet5-mnist", "POST to /classify_image")):
        error = refused(raw, path, {"model": name, "prompt": "a", "messages": ASKED} | only(path), 404)
        assert (error["param"], error["code"]) == ("model", "model_not_found")
        assert words in error["message"]


def only(path: str) -> dict:
    """Nothing of the other path's: `prompt` is no field of a conversation."""
    return {"messages" if path == PATHS[0] else "prompt": None}


@pytest.mark.parametrize("path", PATHS)
def test_what_is_no_request(raw: httpx.Client, path: str) -> None:
    for content in (b"", b"{", b"[]", b"null", b'{"model": NaN}', b"[" * 100_000, b'{"n": 1e999}'):
        response = raw.post(path, content=content)
        assert response.status_code == 400, content[:20]
        assert response.json()["error"]["type"] == "invalid_request_error"
    for media_type in ("text/plain", "multipart/form-data; boundary=x", "application/x-pickle"):
        response = raw.post(path, content=b"{}", headers={"content-type": media_type})
        assert response.status_code == 415
        assert "application/json" in response.json()["error"]["message"]
    response = raw.get(path)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    response = raw.post("/v1/models", json={})
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
    for nowhere in ("/v1/", "/v1/embeddings", f"{path}/", "/v1/models/"):
        assert raw.get(nowhere).status_code == 404
        assert raw.get(nowhere).json()["error"]["code"]
    assert raw.head("/v1/models").status_code == 200


def test_harmless_fields(raw: httpx.Client) -> None:
    harmless = {
        "user": "me",
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "tools": [],
        "tool_choice": "none",
        "modalities": ["text"],
        "functions": None,
        "logit_bias": None,
        "stop": None,
        "n": None,
        "top_p": 0,
        "response_format": {"type": "text"},
        "best_of": None,
    }
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "nice."}]},
        {"role": "user", "content": "hello", "name": "me"},
        {"role": "assistant", "content": "hi", "refusal": None, "tool_calls": None, "annotations": []},
        {"role": "user", "content": "and?"},
    ]
    response = raw.post(PATHS[1], json={"model": TALK, "messages": messages, **harmless})
    assert response.status_code == 200, response.text
    assert (
        response.json()["usage"]["prompt_tokens"] == sum(map(len, ("Be\nnice.", "hello", "hi", "and?"))) + 9
    )
    response = raw.post(PATHS[0], json={"model": LETTERS, "prompt": "", **harmless})
    assert response.json()["choices"][0]["text"] == "abcdefghij\nabcde"


def test_the_client_s_exceptions(writers: Server) -> None:
    def ask(key: str = KEY, **fields: Any) -> None:
        with OpenAI(base_url=f"{writers.url}/v1", api_key=key, max_retries=0) as client:
            client.chat.completions.create(**{"model": TALK, "messages": ASKED, **fields})

    for kind, fields in (
        (openai.BadRequestError, {"temperature": 3}),
        (openai.NotFoundError, {"model": "nobody"}),
        (openai.PermissionDeniedError, {"key": "wrong"}),
    ):
        with pytest.raises(kind) as error:
            ask(**fields)
        assert error.value.type == "invalid_request_error"
        assert error.value.code
    with pytest.raises(openai.BadRequestError) as error:
        ask(temperature=3)
    assert error.value.param == "temperature"
    response = httpx.post(f"{writers.url}{PATHS[1]}", json={"model": TALK, "messages": ASKED})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "unauthorized")


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A step takes some milliseconds, and three texts are written at a time."""
    folder: Path = tmp_path_factory.mktemp("slow")
    write_writer(folder / "bundles" / "made", slow=500)
    with running(
        folder / "log", ZOO_BUNDLES=str(folder / "bundles"), ZOO_GENERATIONS="3", ZOO_QUEUE="0"
    ) as server:
        yield server


LONG: dict[str, Any] = {"model": LETTERS, "prompt": "abc", "temperature": 0, "max_tokens": 4096}


@pytest.mark.slow
def test_every_choice_takes_a_place(slow: Server) -> None:
    with OpenAI(base_url=f"{slow.url}/v1", api_key="-", max_retries=0) as client:
        with client.completions.create(**LONG, n=2, stream=True) as stream:
            next(iter(stream))
            with pytest.raises(openai.InternalServerError) as refused:
                client.completions.create(**{**LONG, "max_tokens": 1}, n=2)
            assert refused.value.status_code == 503
            assert refused.value.response.headers["retry-after"]
            assert refused.value.code == "overloaded"
            with pytest.raises(openai.InternalServerError):
                client.completions.create(**{**LONG, "max_tokens": 1}, n=2, stream=True)
            assert client.completions.create(**{**LONG, "max_tokens": 1}).choices[0].text == "d"
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(**LONG, n=4)
        assert "at most 3" in refused.value.message


def test_the_client_tries_again(slow: Server) -> None:
    with OpenAI(base_url=f"{slow.url}/v1", api_key="-", max_retries=5) as client:
        stream = client.completions.create(**LONG, n=3, stream=True)
        next(iter(stream))
        ending = threading.Timer(1.5, stream.close)
        ending.start()
        begun = time.monotonic()
        assert client.completions.create(**{**LONG, "max_tokens": 1}, n=3).choices[2].text == "d"
        assert time.monotonic() - begun > 0.5
        ending.join()


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_ends_all_of_its_texts(slow: Server, streamed: bool) -> None:
    with httpx.Client(base_url=slow.url, timeout=30) as client:
        if streamed:
            with client.stream("POST", PATHS[0], json={**LONG, "n": 3, "stream": True}) as response:
                lines = response.iter_lines()
                assert next(lines).startswith("data: ")
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(PATHS[0], json={**LONG, "n": 3}, timeout=0.5)
        end = time.monotonic() + 3  # the whole texts would take far longer
        short = {**LONG, "n": 3, "max_tokens": 1}
        while (response := client.post(PATHS[0], json=short)).status_code == 503:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert response.status_code == 200


def test_a_text_that_has_begun_ends_at_its_deadline(slow: Server) -> None:
    headers = {"X-Request-Timeout": "0.5"}
    with OpenAI(base_url=f"{slow.url}/v1", api_key="-", max_retries=0, default_headers=headers) as client:
        cut = client.completions.create(**LONG, n=2)
        assert [choice.finish_reason for choice in cut.choices] == ["length"] * 2
        assert cut.usage.completion_tokens == sum(len(choice.text) for choice in cut.choices) > 2
        pieces = list(client.completions.create(**LONG, n=2, stream=True))
        assert [p.choices[0].finish_reason for p in pieces if p.choices[0].finish_reason] == ["length"] * 2
        with pytest.raises(openai.InternalServerError) as late:
            client.completions.create(**LONG, extra_headers={"X-Request-Timeout": "0"})
        assert late.value.status_code == 504
        assert late.value.code == "deadline_exceeded"


def test_a_text_that_has_begun_is_kept_beside_one_that_has_not(slow: Server) -> None:
    prompts = ["abc", "abc" * 2600]  # the second one takes longer to read than there is time
    headers = {"X-Request-Timeout": "0.4"}
    with OpenAI(base_url=f"{slow.url}/v1", api_key="-", max_retries=0, default_headers=headers) as client:
        cut = client.completions.create(**{**LONG, "prompt": prompts})
        assert [choice.finish_reason for choice in cut.choices] == ["length"] * 2
        assert cut.choices[0].text
        pieces = list(client.completions.create(**{**LONG, "prompt": prompts}, stream=True))
        assert [p.choices[0].finish_reason for p in pieces if p.choices[0].finish_reason] == ["length"] * 2


def test_many_at_once(writers: Server) -> None:
    async def ask() -> list[str]:
        async with AsyncOpenAI(base_url=f"{writers.url}/v1", api_key=KEY) as client:

            async def one(number: int) -> str:
                text = ""
                async for chunk in await client.completions.create(
                    model=LETTERS, prompt="abcdefghij"[number], temperature=0, max_tokens=30, stream=True
                ):
                    text += chunk.choices[0].text
                return text

            return await asyncio.gather(*map(one, range(10)))

    cycle = "abcdefghij\n" * 4
    assert asyncio.run(ask()) == [cycle[number + 1 :][:30] for number in range(10)]
