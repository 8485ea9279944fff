"""OpenAI's API, by its own client over the real service: whole answers and streams."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI
from server import Server, running
from tiny_zoo import REPLY, write_images, write_talker, write_writer

LETTERS, TALK = "rnn-letters", "rnn-reply"
LINEAGE = {"model", "version", "run_id", "digest", "provider"}
ASKED = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with a model of letters, one that holds conversations, and one that writes nothing."""
    folder: Path = tmp_path_factory.mktemp("writers")
    for write in (write_writer, write_talker, write_images):
        write(folder / "bundles" / write.__name__)
    with running(folder / "log", ZOO_BUNDLES=str(folder / "bundles")) as server:
        yield server


@pytest.fixture
def client(writers: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{writers.url}/v1", api_key="-", max_retries=0) as client:
        yield client


def test_models(client: OpenAI) -> None:
    models = list(client.models.list())
    assert [model.id for model in models] == ["letters", "reply", LETTERS, TALK]
    assert all(model.object == "model" and model.owned_by and model.created > 0 for model in models)
    (shown,) = [model for model in models if model.id == "reply"]
    assert client.models.retrieve("reply") == shown
    assert shown.lineage.keys() == LINEAGE
    assert shown.lineage["model"] == TALK
    for name in ("nobody", "lenet5-mnist", "a/b"):
        with pytest.raises(openai.NotFoundError) as refused:
            client.models.retrieve(name)
        assert refused.value.code == "model_not_found"


def test_completion(client: OpenAI) -> None:
    answer = client.completions.create(model=LETTERS, prompt="abc", temperature=0, max_tokens=12)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.model == LETTERS
    assert answer.lineage.keys() == LINEAGE
    assert answer.system_fingerprint == f"fp_{answer.lineage['digest'][:12]}"
    (choice,) = answer.choices
    assert (choice.index, choice.text, choice.finish_reason) == (0, "defghij\nabcd", "length")
    assert choice.logprobs is None
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 12, 15)


def test_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=TALK, messages=ASKED, temperature=0)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.lineage.keys() == LINEAGE
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", REPLY)
    assert choice.finish_reason == "stop"
    assert answer.usage.prompt_tokens == len("hello") + 3
    assert answer.usage.completion_tokens == len(REPLY.encode())


def test_chat_stream(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=TALK,
            messages=ASKED,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    first, *middle, last, usage = chunks
    assert first.choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in middle)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in (first, *middle)) == REPLY
    assert all(chunk.choices[0].finish_reason is None for chunk in (first, *middle))
    assert last.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage.total_tokens == len("hello") + 3 + len(REPLY.encode())
    assert all(chunk.usage is None for chunk in (first, *middle, last))


def test_completion_stream(client: OpenAI) -> None:
    chunks = list(
        client.completions.create(model=LETTERS, prompt="abc", temperature=0, max_tokens=300, stream=True)
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == ("defghij\nabc" * 30)[:300]
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "length"]
    assert chunks[0].usage is None


def test_a_stream_as_it_is_sent(writers: Server) -> None:
    body = {"model": TALK, "messages": ASKED, "stream": True}
    response = httpx.post(f"{writers.url}/v1/chat/completions", json=body)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-zoo-model"] == TALK
    *events, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(event.startswith('data: {"id":') for event in events)
    assert "usage" not in response.text


SAMPLED = {"model": LETTERS, "prompt": "abc", "max_tokens": 60, "temperature": 1.5, "seed": 7}


def test_choices_differ_and_come_again(client: OpenAI) -> None:
    texts = [choice.text for choice in client.completions.create(**SAMPLED, n=4).choices]
    assert len(set(texts)) == 4
    again = client.completions.create(**SAMPLED, n=4)
    assert [(choice.index, choice.text) for choice in again.choices] == list(enumerate(texts))
    assert client.completions.create(**SAMPLED).choices[0].text == texts[0]
    several = client.completions.create(**{**SAMPLED, "prompt": ["a", "abc"]}, n=2)
    assert [choice.text for choice in several.choices[2:]] == texts[:2]
    assert several.usage.prompt_tokens == 4
    assert several.usage.completion_tokens == 240
    free = [client.completions.create(**{**SAMPLED, "seed": None}).choices[0].text for _ in range(2)]
    assert len({*free, texts[0]}) == 3
    negative = [client.completions.create(**{**SAMPLED, "seed": -7}).choices[0].text for _ in range(2)]
    assert negative[0] == negative[1] not in texts


def test_choices_streamed_are_the_same(client: OpenAI) -> None:
    asked = {**SAMPLED, "prompt": ["abc", "j"], "n": 2, "stop": ["a\n", "bb"], "max_tokens": 200}
    whole = client.completions.create(**asked)
    texts, reasons = [""] * 4, [""] * 4
    for chunk in client.completions.create(**asked, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.text
        reasons[choice.index] += choice.finish_reason or ""
    assert texts == [choice.text for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]


def test_examples_of_the_document_succeed(writers: Server) -> None:
    paths = httpx.get(f"{writers.url}/docs.json").json()["paths"]
    for path, names in (
        ("/v1/completions", {"letters", "reply", LETTERS, TALK}),
        ("/v1/chat/completions", {"reply", TALK}),
    ):
        examples = paths[path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        assert examples.keys() == names
        for example in examples.values():
            response = httpx.post(f"{writers.url}{path}", json=example["value"])
            assert response.status_code == 200, response.text


def test_what_it_counts_as(writers: Server) -> None:
    page = httpx.get(f"{writers.url}/metrics").text
    counted = [line for line in page.splitlines() if line.startswith("zoo_requests_total{")]
    assert any('dialect="openai"' in line and f'model="{LETTERS}"' in line for line in counted)
