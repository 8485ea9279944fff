"""`zoo chat` against a server that speaks as OpenAI's: what is sent, what is shown, and what ends it."""

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

from zoo.cli import main
from zoo.word_wrap import WordWrap

Captured = pytest.CaptureFixture[str]
ROOM = 5  # messages that fit the context


class Service(ThreadingHTTPServer):
    """Answers `echo:` and what was said last; is never done with `long`, and falls silent after `cut`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.bits = {"rnn-letters": 1.0, "llama-a": 3.0, "llama-b": 2.0}
        self.chats = {"llama-a", "llama-b"}
        self.left = Event()
        """A client went while it was told something."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        names = {name: name for name in self.server.bits} | {"data-set": "llama-b"}
        if self.path == "/v1/models":
            entries = [
                {
                    "id": name,
                    "object": "model",
                    "chat": model in self.server.chats,
                    "lineage": {"model": model},
                }
                for name, model in names.items()
            ]
            self.answer(200, {"object": "list", "data": entries})
        elif self.path == "/models":
            bits = {name: self.server.bits[model] for name, model in names.items()}
            listed = [{"name": n, "metrics": {"bits_per_character": b}} for n, b in bits.items()]
            self.answer(200, {"models": listed})
        else:
            self.answer(
                404, {"error": "nothing answers at this path", "code": "not_found", "request_id": "1"}
            )

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.keys.append(self.headers.get("Authorization"))
        if body["model"] not in self.server.chats:
            self.refuse("model", f"{body['model']!r} holds no conversations", "no_chat_template")
        elif len(body["messages"]) > ROOM:
            self.refuse("messages", "too many tokens", "context_length_exceeded")
        else:
            self.stream(body["messages"][-1]["content"])

    def stream(self, said: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.tell(role="assistant", content="")
        for word in ("echo:", *said.split()):
            self.tell(content=f"{word} ")
        if said == "cut":
            return
        try:
            while said == "long":
                self.tell(content="more ")
                time.sleep(0.01)
        except OSError:
            self.server.left.set()
            return
        if said == "control":
            self.tell(content="\x1b]0;title\x07 \x9b2J \u202eback")
        if said == "wrong":
            self.event({"error": {"message": "past the deadline", "code": "deadline"}})
            return
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.event({"choices": [], "usage": {"total_tokens": 1}})
        self.wfile.write(b"data: [DONE]\n\n")

    def tell(self, **delta: str) -> None:
        self.event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    def event(self, event: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")

    def refuse(self, field: str, message: str, code: str) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": field, "code": code}
        self.answer(400, {"error": error})

    def answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        thread = Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield service
        service.shutdown()
        thread.join()


def chat(service: Service, typed: str, *words: str) -> None:
    """`zoo chat` with a pipe for its standard input."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(typed))
        main(["chat", "--url", service.url, *words])


def test_a_conversation(service: Service, capsys: Captured) -> None:
    chat(service, "hello there\n\n  \nand now?", "llama-a", "--system", "Be brief.", "--max-tokens", "9")
    assert capsys.readouterr().out == "echo: hello there \necho: and now? \n"
    first, second = service.asked
    assert first == {
        "model": "llama-a",
        "stream": True,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hello there"},
        ],
        "max_tokens": 9,
        "temperature": 0.7,
    }
    assert second["messages"] == [
        *first["messages"],
        {"role": "assistant", "content": "echo: hello there "},
        {"role": "user", "content": "and now?"},
    ]


def test_nothing_is_said(service: Service, capsys: Captured) -> None:
    chat(service, "", "llama-a")
    assert capsys.readouterr().out == ""
    assert service.asked == []


def test_without_a_name_the_best_model_that_holds_conversations(service: Service) -> None:
    chat(service, "hello")
    assert service.asked[0]["model"] == "llama-b"
    service.chats = {"llama-a"}
    chat(service, "hello")
    assert service.asked[1]["model"] == "llama-a"


@pytest.mark.parametrize("system", [(), ("--system", "Be brief.")], ids=["", "system"])
def test_the_oldest_turns_are_forgotten(service: Service, system: tuple[str, ...]) -> None:
    chat(service, "one\ntwo\nthree\nfour\n", "llama-a", *system)
    sent = [[message["content"] for message in body["messages"]] for body in service.asked]
    last = (
        ["three", "echo: three ", "four"]
        if system
        else ["two", "echo: two ", "three", "echo: three ", "four"]
    )
    assert sent[-1] == [*system[1:], *last]


def test_the_key(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_API_KEY", "secret")
    chat(service, "hello", "llama-a")
    assert service.keys == ["Bearer secret"]


@pytest.mark.parametrize(
    ("words", "typed", "message"),
    [
        (("rnn-letters",), "hello", "'rnn-letters' holds no conversations"),
        (("llama-a",), "wrong", "past the deadline"),
        (("llama-a",), "cut", "/v1/chat/completions broke off"),
        (("--url", "http://127.0.0.1:9"), "hello", "no service answers at http://127.0.0.1:9/v1/models"),
        (("llama-a", "--url", "http://127.0.0.1:9"), "hello", "start it with zoo serve"),
        (("llama-a", "--url", "nowhere"), "hello", "no service answers at nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_errors_say_what_to_do(
    service: Service, words: tuple[str, ...], typed: str, message: str, capsys: Captured
) -> None:
    with pytest.raises(SystemExit) as ended:
        chat(service, typed, *words)
    assert ended.value.code == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_no_model_holds_conversations(service: Service, capsys: Captured) -> None:
    service.chats = set()
    with pytest.raises(SystemExit):
        chat(service, "hello")
    assert "holds conversations; zoo train smollm2 makes one that does" in capsys.readouterr().err


def test_standard_input_that_is_no_text(service: Service) -> None:
    command = [
        sys.executable,
        "-c",
        "from zoo.cli import main; main()",
        "chat",
        "llama-a",
        "--url",
        service.url,
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}  # which some locales are not strict about
    done = subprocess.run(command, input=b"\xff\n", env=environment, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert b"zoo: the standard input is not UTF-8" in done.stderr


# At a terminal


class Terminal:
    """`zoo chat` as somebody sees it who sits before it."""

    def __init__(self, *words: str) -> None:
        self.screen, inside = pty.openpty()
        environment = {**os.environ, "TERM": "dumb", "COLUMNS": "40", "LINES": "24"}
        command = [sys.executable, "-c", "from zoo.cli import main; main()", "chat", *words]
        self.process = subprocess.Popen(
            command, stdin=inside, stdout=inside, stderr=inside, env=environment, start_new_session=True
        )
        os.close(inside)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C until there is a prompt; Python may overlook one that comes just as it begins to read."""
        for _ in range(6):
            self.process.send_signal(signal.SIGINT)
            if self.shows("> ", 5):
                break
        self.wait_for("> ")

    def shows(self, text: str, within: float) -> bool:
        """Whether a text is there in time."""
        end = time.monotonic() + within
        while text not in self.seen and time.monotonic() < end:
            if select.select([self.screen], [], [], 0.1)[0]:
                self.seen += os.read(self.screen, 4096).decode().replace("\r\n", "\n")
        return text in self.seen

    def wait_for(self, text: str) -> str:
        """What was shown until a text is there."""
        assert self.shows(text, 30), self.seen
        shown, _, self.seen = self.seen.partition(text)
        return shown


@pytest.fixture
def terminal(service: Service) -> Iterator[Terminal]:
    terminal = Terminal("llama-a", "--url", service.url)
    yield terminal
    terminal.process.kill()
    terminal.process.wait()
    os.close(terminal.screen)


def test_ctrl_c_ends_the_answer_and_ctrl_d_the_conversation(service: Service, terminal: Terminal) -> None:
    assert "Ctrl-C ends an answer" in terminal.wait_for("\n\n> ")
    terminal.type("long\n")
    terminal.wait_for("more more")
    terminal.interrupt()
    assert service.left.wait(10), "the service learns of it"
    terminal.type("wrong\n")
    assert "past the deadline" in terminal.wait_for("> ")
    terminal.interrupt()  # where nothing is being answered: another line
    terminal.type(f"{'words and ' * 9}\n")
    terminal.wait_for("echo:")
    shown = terminal.wait_for("> ")
    assert max(map(len, shown.splitlines())) <= 40
    assert " ".join(shown.split()) == ("words and " * 9).strip()
    roles = [message["role"] for message in service.asked[-1]["messages"]]
    assert roles == ["user", "assistant", "user"], "an answer is kept as far as it got, an error is not"
    assert service.asked[-1]["messages"][1]["content"].startswith("echo: long more more")
    terminal.type("\x04")
    assert terminal.process.wait(30) == 0


def test_a_terminal_gets_no_control_characters(terminal: Terminal) -> None:
    terminal.wait_for("\n\n> ")
    terminal.type("control\n")
    terminal.wait_for("echo: control")
    assert terminal.wait_for("back").split() == ["]0;title", "2J"]


# Lines


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["one two three four"], "one two\nthree four\n"),
        (list("one two three four"), "one two\nthree four\n"),
        (["a\n\n", "  b", "c\n"], "a\n\n  bc\n\n"),
        (["one two   ", "three"], "one two\nthree\n"),
        (["abcdefghijklmno p"], "abcdefghij\nklmno p\n"),
        (["日本語日本語 日本"], "日本語日本\n語 日本\n"),
        ([""], "\n"),
    ],
)
def test_lines_are_broken_between_words(pieces: list[str], shown: str, capsys: Captured) -> None:
    wrap = WordWrap(10)
    for piece in pieces:
        wrap.add(piece)
    wrap.end()
    assert capsys.readouterr().out == shown


def test_a_complete_word_is_shown_at_once(capsys: Captured) -> None:
    wrap = WordWrap(10)
    wrap.add("one tw")
    assert capsys.readouterr().out == "one"
    wrap.add("o ")
    assert capsys.readouterr().out == " two"


def test_without_a_width_the_text_is_as_it_is(capsys: Captured) -> None:
    wrap = WordWrap(None)
    wrap.add("one two three  four ")
    wrap.end()
    assert capsys.readouterr().out == "one two three  four \n"
