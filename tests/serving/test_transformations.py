"""`/transform_text` through the real service, whose tiny model writes every text again."""

import json
import threading
from pathlib import Path

import bentoml
import httpx
import pytest
from server import Server

from zoo.cli import main

MODEL = "transformer-echo"
TEXTS = ["one two three", "six", "", "seven eight nine ten eleven", "naïve €"]


def ask(client: httpx.Client, text: object, **fields: object) -> httpx.Response:
    return client.post("/transform_text", json={"model": MODEL, "text": text, **fields})


def test_one_text(client: httpx.Client) -> None:
    body = ask(client, "one two three").json()
    assert body.keys() == {"texts", "scores", "lineage"}
    assert body["texts"] == ["one two three"]
    assert body["lineage"]["model"] == MODEL
    assert -5 < body["scores"][0] < 0


@pytest.mark.parametrize("beam_size", [1, 2, 5, 16])
def test_several_texts_are_answered_as_alone(client: httpx.Client, beam_size: int) -> None:
    body = ask(client, TEXTS, beam_size=beam_size).json()
    assert body["texts"] == TEXTS
    for text, score in zip(TEXTS, body["scores"], strict=True):
        alone = ask(client, text, beam_size=beam_size).json()
        assert alone["texts"] == [text]
        assert alone["scores"] == pytest.approx([score])


def test_a_limit_shortens_the_answers(client: httpx.Client) -> None:
    texts = ["one", "one two three four five six"]
    for beam_size in (1, 5):
        short, cut = ask(client, texts, beam_size=beam_size, max_tokens=4).json()["texts"]
        assert short == "one"
        assert texts[1].startswith(cut)
        assert 0 < len(cut) < len(texts[1])
    assert ask(client, texts, max_tokens=1000).json()["texts"] == texts


def test_without_scores(client: httpx.Client) -> None:
    assert ask(client, "six", scores=False).json()["scores"] is None


@pytest.mark.parametrize(
    ("text", "fields", "words"),
    [
        ("one " * 99, {}, "tokens; at most 64 are read"),
        (["one", "one " * 99], {}, "text[1] has"),
        ([], {}, "text"),
        (["a"] * 257, {}, "256"),
        ("a" * 20_000, {}, "16384"),
        (None, {}, "text"),
        ("a", {"beam_size": 0}, "beam_size"),
        ("a", {"beam_size": 17}, "16"),
        ("a", {"max_tokens": 0}, "max_tokens"),
        ("a", {"stream": True}, "stream"),
        ("a", {"model": "rnn-letters"}, "POST to /generate_text"),
    ],
)
def test_what_does_not_fit(client: httpx.Client, text: object, fields: dict, words: str) -> None:
    response = ask(client, text, **fields)
    assert response.status_code == 422
    assert words in response.json()["error"]


def test_details(client: httpx.Client) -> None:
    details = client.get(f"/models/{MODEL}").json()
    assert details["primary_metric"] == "bleu"
    assert [tensor["name"] for tensor in details["inputs"]][:2] == ["source", "tokens"]
    assert all(tensor["shape"][0] == -1 for tensor in details["inputs"] + details["outputs"])


def test_bentoml_s_client(server: Server) -> None:
    with bentoml.SyncHTTPClient(server.url) as client:
        assert client.transform_text(model=MODEL, text=["six", "two"])["texts"] == ["six", "two"]
        client._temp_dir.cleanup()  # which it leaves to the garbage collector, and that warns


def test_many_at_once(server: Server) -> None:
    answers: dict[int, list[str]] = {}

    def write(place: int) -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            answers[place] = ask(client, [f"text {place} {i}" for i in range(5)]).json()["texts"]

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {i: [f"text {i} {k}" for k in range(5)] for i in range(8)}


def test_zoo_predict(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "text.txt"
    path.write_text("four [five]\n", encoding="utf-8")
    main(["predict", MODEL, "one two", str(path), "--url", server.url])
    assert capsys.readouterr().out == f"one two\nfour [five]\n{MODEL} version 1\n"
    main(["predict", MODEL, "one " * 15, "--url", server.url, "--json"])
    assert json.loads(capsys.readouterr().out)["texts"] == [("one " * 15).strip()]


@pytest.mark.parametrize(("name", "command"), [("rnn-letters", "zoo write"), ("gan-mnist", "zoo generate")])
def test_zoo_predict_says_which_command_asks(
    server: Server, capsys: pytest.CaptureFixture[str], name: str, command: str
) -> None:
    with pytest.raises(SystemExit):
        main(["predict", name, "x", "--url", server.url])
    assert command in capsys.readouterr().err
