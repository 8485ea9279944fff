"""Child processes: their limits, and what comes back from them."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from serving.child_process import ChildProcesses
from serving.problem import Problem
from serving.turns import DeadlineExceeded
from zoo.errors import InputTooLarge, InvalidInput, NotFound

MEMORY = 1 << 28
SOON = 30.0


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildProcesses]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where children find this file
    children = ChildProcesses(MEMORY)
    yield children
    children.close()


def process_number() -> int:
    return os.getpid()


def doubled(number: int) -> int:
    return 2 * number


def asked(words: list[str], ask: Callable[[str], str]) -> str:
    return "".join(ask(word) for word in words)


def loop() -> None:
    while True:
        pass


def takes(size: int) -> int:
    return len(bytearray(size))


def fails(kind: str) -> None:
    if kind == "problem":
        raise Problem(422, "invalid_request", "wrong", {"A": "b"}, "rows")
    if kind == "domain":
        raise InvalidInput("does not fit")
    raise LookupError("unforeseen")


def soon() -> float:
    return time.monotonic() + SOON


def test_a_child_is_used_again(children: ChildProcesses) -> None:
    first = children.call(soon(), process_number)
    assert first != os.getpid()
    assert children.call(soon(), doubled, 21) == 42
    assert children.call(soon(), process_number) == first


def test_a_child_asks(children: ChildProcesses) -> None:
    assert children.call(soon(), asked, ["a", "b"], answer=str.upper) == "AB"


def test_what_cannot_be_answered_is_raised(children: ChildProcesses) -> None:
    def refuse(word: str) -> str:
        raise NotFound(f"no {word}")

    number = children.call(soon(), process_number)
    with pytest.raises(NotFound, match="no a"):
        children.call(soon(), asked, ["a"], answer=refuse)
    assert children.call(soon(), process_number) == number


def test_errors_come_back(children: ChildProcesses) -> None:
    with pytest.raises(InvalidInput, match="does not fit"):
        children.call(soon(), fails, "domain")
    with pytest.raises(Problem) as problem:
        children.call(soon(), fails, "problem")
    told = problem.value
    assert (told.status, told.code, told.message, told.headers, told.field) == (
        422, "invalid_request", "wrong", {"A": "b"}, "rows"
    )  # fmt: skip
    with pytest.raises(LookupError) as unforeseen:
        children.call(soon(), fails, "")
    assert "in fails" in "".join(unforeseen.value.__notes__)


def test_endless_work_is_killed(children: ChildProcesses) -> None:
    children.call(soon(), process_number)
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        children.call(begun + 0.3, loop)
    assert time.monotonic() - begun < SOON / 2
    assert children.call(soon(), doubled, 1) == 2
    with pytest.raises(DeadlineExceeded):
        children.call(time.monotonic() - 1, doubled, 1)


def test_memory_is_bounded(children: ChildProcesses) -> None:
    assert children.call(soon(), takes, MEMORY // 2) == MEMORY // 2
    with pytest.raises(InputTooLarge):
        children.call(soon(), takes, 2 * MEMORY)
    assert children.call(soon(), doubled, 1) == 2


def test_idle_children_are_ended(children: ChildProcesses) -> None:
    first = children.call(soon(), process_number)
    children.end_idle()
    assert psutil.pid_exists(first)
    children.end_idle(0)
    assert not psutil.pid_exists(first)
    assert children.call(soon(), process_number) != first


def test_a_child_that_waits_for_an_answer_is_not_used_again(children: ChildProcesses) -> None:
    first = children.call(soon(), process_number)
    with pytest.raises(Exception, match="pickle"):
        children.call(soon(), asked, ["a"], answer=lambda word: lambda: word)
    assert children.call(soon(), process_number) != first
