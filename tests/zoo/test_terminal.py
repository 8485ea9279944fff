"""Text of others neither moves the cursor of a terminal nor reorders what it shows."""

import io
import os
import pty
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import IO

import pytest

from zoo.cli import main
from zoo.tables import show, show_leaderboard, show_predictions, show_record
from zoo.terminal import printable

HOSTILE = "a\x1b]0;title\x07\x9b2J\r\b\x7f\u202eb\u2066c\td\n[red]e[/] [link=http://evil]f[/link]"
SHOWN = "a]0;title2Jbc\td\n[red]e[/] [link=http://evil]f[/link]"


class Screen:
    """A terminal as a stream, and what was written to it."""

    def __init__(self) -> None:
        self._screen, inside = pty.openpty()
        self.stream: IO[str] = os.fdopen(inside, "w", encoding="utf-8")

    def shown(self) -> str:
        self.stream.close()
        pieces = []
        try:
            while piece := os.read(self._screen, 4096):
                pieces.append(piece)
        except OSError:  # how Linux says that the other end is closed
            pass
        return b"".join(pieces).decode().replace("\r\n", "\n")

    def close(self) -> None:
        self.stream.close()
        os.close(self._screen)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    screen = Screen()
    monkeypatch.setenv("TERM", "dumb")  # rich writes no sequences of its own
    monkeypatch.setenv("COLUMNS", "200")
    yield screen
    screen.close()


def test_values(screen: Screen) -> None:
    value = {HOSTILE: [HOSTILE, 1, None, (HOSTILE,)]}
    assert printable(value, screen.stream) == {SHOWN: [SHOWN, 1, None, [SHOWN]]}


def test_a_pipe_gets_the_text_as_it_is() -> None:
    assert printable(HOSTILE, io.StringIO()) == HOSTILE


LINEAGE = {"model": HOSTILE, "version": HOSTILE}


@pytest.mark.parametrize(
    ("rows", "table"),
    [
        ({"texts": [HOSTILE], "lineage": LINEAGE}, show_predictions),
        ({"predictions": [{"value": 1.0, "unit": HOSTILE}], "lineage": LINEAGE}, show_predictions),
        (
            {"predictions": [{"label": HOSTILE, "probabilities": {HOSTILE: 1.0}}], "lineage": LINEAGE},
            show_predictions,
        ),
        ({"name": HOSTILE}, show_record),
        (
            [
                {
                    "dataset": HOSTILE,
                    "metric": HOSTILE,
                    "champion": False,
                    "gate": "failed",
                    "gate_reason": HOSTILE,
                    "model": HOSTILE,
                    "variant": HOSTILE,
                    "version": HOSTILE,
                    "value": 1.0,
                    "seed": 1,
                    "parameters": 1,
                    "train_seconds": 1.0,
                    "onnx_bytes": 1,
                    "latency_ms": 1.0,
                }
            ],
            show_leaderboard,
        ),
    ],
    ids=["texts", "values", "labels", "record", "leaderboard"],
)
def test_listings(screen: Screen, rows: object, table: object) -> None:
    with redirect_stdout(screen.stream):
        show(rows, False, table)
    shown = screen.shown()
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[link=http://evil]f[/link]" in shown, "it is no markup"


def test_errors(screen: Screen) -> None:
    with pytest.raises(SystemExit), redirect_stderr(screen.stream):
        main(["predict", "x", "1", "--url", "nowhere\x1b]0;title\x07"])
    shown = screen.shown()
    assert "nowhere]0;title" in shown
    assert "\x1b" not in shown
