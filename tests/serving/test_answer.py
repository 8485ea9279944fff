"""`/answer` through the real service: an answer, the passages that were read for it, and what is refused."""

import bentoml
import httpx
import pytest
from server import Server

from zoo.tasks.question_answering import BEST, MAX_ANSWER_TOKENS, MAX_QUESTION, MAX_TEXT

MODEL = "rnn-talk"
ANIMALS = ("zebra", "owl", "seal", "fox", "bee", "carp", "yak", "newt", "lynx", "ibis")
PARAGRAPHS = [
    f"The {animal} is number {i}" + " and so it goes on and on" * 8 for i, animal in enumerate(ANIMALS)
]
TEXT = "\n\n".join(PARAGRAPHS)
QUESTION = {"model": MODEL, "passage": TEXT, "question": "Which number is the lynx, and which the bee?"}


def ask(client: httpx.Client, **fields: object) -> httpx.Response:
    return client.post("/answer", json={**QUESTION, **fields})


def test_json(client: httpx.Client) -> None:
    response = ask(client)
    assert response.status_code == 200, response.text
    body = response.json()
    assert body.keys() == {"answer", "passages", "spans", "lineage"}
    assert body["answer"] == "bcdefghi"
    assert len(body["passages"]) == BEST
    assert {PARAGRAPHS[4], PARAGRAPHS[8]} < set(body["passages"])
    assert body["passages"] == [paragraph for paragraph in PARAGRAPHS if paragraph in body["passages"]]
    assert body["passages"] == [TEXT[start:end] for start, end in body["spans"]]
    assert body["lineage"]["model"] == MODEL
    assert ask(client).json() == body, "nothing is left to chance"


def test_the_data_set_s_name_answers(client: httpx.Client) -> None:
    assert ask(client, model="talk").json() == ask(client).json()


def test_a_short_answer(client: httpx.Client) -> None:
    assert ask(client, max_tokens=3).json()["answer"] == "bcd"


def test_a_sentence_in_a_book(client: httpx.Client) -> None:
    told = "The key lies under the third stone."
    book = "".join(f"{paragraph}\n\n" for paragraph in PARAGRAPHS * 250)
    passage = f"{book}{told}\n\n{book}"
    assert MAX_TEXT / 2 < len(passage) < MAX_TEXT
    body = ask(client, passage=passage, question="Under which stone does the key lie?").json()
    assert any(told in read for read in body["passages"])


def test_letters_of_several_bytes(client: httpx.Client) -> None:
    passage = "Größe 🙂 日本語。"
    body = ask(client, passage=passage, question="Größe?").json()
    assert (body["passages"], body["spans"]) == ([passage], [[0, len(passage)]])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "rnn-letters"}, ["holds no conversations"]),
        ({"model": "lenet5-mnist"}, ["/classify_image"]),
        ({"model": "mnist", "passage": 3}, ["/classify_image"]),
        ({"passage": ""}, ["passage"]),
        ({"passage": " \n\t"}, ["passage: there is nothing to read in it"]),
        ({"passage": "a" * (MAX_TEXT + 1)}, ["passage", str(MAX_TEXT)]),
        ({"passage": None}, ["passage"]),
        ({"passage": ["a"]}, ["passage"]),
        ({"question": ""}, ["question"]),
        ({"question": "a" * (MAX_QUESTION + 1)}, ["question", str(MAX_QUESTION)]),
        ({"max_tokens": 0}, ["max_tokens"]),
        ({"max_tokens": MAX_ANSWER_TOKENS + 1}, ["max_tokens", str(MAX_ANSWER_TOKENS)]),
        ({"stream": True, "text": "x"}, ["stream", "text"]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_does_not_fit(client: httpx.Client, fields: dict, words: list[str]) -> None:
    response = ask(client, **fields)
    assert response.status_code == 422
    for word in words:
        assert word in response.json()["error"]


def test_other_errors(client: httpx.Client) -> None:
    assert ask(client, model="nope").status_code == 404
    assert client.get("/answer").status_code == 405
    assert client.post("/answer", files={"model": (None, MODEL)}).status_code == 415
    assert client.post("/answer", content=b"{").status_code == 400


def test_the_page_s_examples_succeed(client: httpx.Client) -> None:
    """They are of those models alone that can answer."""
    described = client.get("/docs.json").json()["paths"]["/answer"]["post"]
    examples = described["requestBody"]["content"]["application/json"]["examples"]
    assert {MODEL, "talk"} <= examples.keys()
    assert not {"rnn-letters", "letters", "mnist"} & examples.keys()
    for name, example in examples.items():
        assert example["value"]["model"] == name
        response = client.post("/answer", json=example["value"])
        assert response.status_code == 200
        assert response.json()["passages"] == [example["value"]["passage"]]


def test_bentoml_s_client(server: Server) -> None:
    with bentoml.SyncHTTPClient(server.url) as client:
        assert client.answer(**QUESTION)["answer"] == "bcdefghi"
        client._temp_dir.cleanup()  # which it leaves to the garbage collector, and that warns
