"""`zoo chat` with the real service."""

import io

import httpx
import pytest
from server import Server

from zoo.cli import main

Captured = pytest.CaptureFixture[str]


def chat(server: Server, typed: str, *words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(typed))
        main(["chat", *words, "--url", server.url])


def test_the_listing_says_which_models_hold_conversations(client: httpx.Client) -> None:
    listed = {entry["id"]: entry["chat"] for entry in client.get("/v1/models").json()["data"]}
    assert {"rnn-letters": False, "letters": False, "rnn-talk": True, "talk": True}.items() <= listed.items()


@pytest.mark.parametrize("words", [(), ("rnn-talk",), ("talk", "--system", "Be brief.")], ids=" ".join)
def test_a_conversation(server: Server, words: tuple[str, ...], capsys: Captured) -> None:
    chat(server, "hello\nand again\n", *words, "--temperature", "0")
    assert capsys.readouterr().out == "bcdefghi\nbcdefghi\n"


def test_a_short_answer(server: Server, capsys: Captured) -> None:
    chat(server, "hello", "rnn-talk", "--temperature", "0", "--max-tokens", "3")
    assert capsys.readouterr().out == "bcd\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rnn-letters",), "'rnn-letters' holds no conversations"),
        (("lenet5-mnist",), "no language model"),
        (("nope",), "no model answers to this name"),
        (("rnn-talk", "--max-tokens", "0"), "max_tokens"),
        (("rnn-talk", "--temperature", "3"), "temperature"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_the_service_refuses(
    server: Server, words: tuple[str, ...], message: str, capsys: Captured
) -> None:
    with pytest.raises(SystemExit) as ended:
        chat(server, "hello", *words)
    assert ended.value.code == 1
    assert message in capsys.readouterr().err
