"""Conversations from files and packages: what is read and refused, and that no beginning is on both sides."""

import json
import zipfile
from pathlib import Path

import pytest

from training.datasets import chat_pairs, chatterbot
from training.datasets.chat_pairs import hold_out_conversations, load_conversations
from training.datasets.text_file import hold_out_end
from zoo.errors import InvalidInput, NotFound
from zoo.tasks import Arrays
from zoo.tasks.conversations import CONVERSATIONS

Turns = list[tuple[str, str]]


def line(turns: Turns) -> str:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]})


def question(number: int, answer: str = "yes") -> Turns:
    return [("user", f"is {number} even?"), ("assistant", answer)]


def file_of(folder: Path, conversations: list[Turns]) -> str:
    path = folder / "Small Talk.jsonl"
    path.write_text("\n".join(map(line, conversations)) + "\n", encoding="utf-8")
    return f"chat:{path}"


def read(split: Arrays | None) -> list[Turns]:
    assert split is not None
    lines = split[CONVERSATIONS].tobytes().decode().split("\n")
    return [[(m["role"], m["content"]) for m in json.loads(line)["messages"]] for line in lines]


def test_a_file(tmp_path: Path) -> None:
    longer = [("system", "Be brief."), *question(100), ("user", "sure? 🙂\u2028"), ("assistant", "yes")]
    given = [*map(question, range(40)), longer]
    data = load_conversations(file_of(tmp_path, given))
    assert (data.name, data.kind, data.source) == ("small-talk", "language_modelling", "Small Talk.jsonl")
    train, test = read(data.train), read(data.test)
    assert sorted(train + test) == sorted(given)
    assert 3 <= len(test) <= 15


def test_no_beginning_is_on_both_sides(tmp_path: Path) -> None:
    answers = [question(n, answer) for n in range(60) for answer in ("yes", "no", "maybe")]
    shouted = [[("user", turns[0][1].upper()), turns[1]] for turns in answers]
    data = hold_out_conversations(load_conversations(file_of(tmp_path, answers + shouted)), 0.2)
    sides = [{turns[0][1].lower() for turns in read(s)} for s in (data.train, data.validation, data.test)]
    assert sum(map(len, sides)) == 60
    assert set.union(*sides) == {turns[0][1] for turns in answers}


def test_what_comes_twice_counts_once(tmp_path: Path) -> None:
    once = load_conversations(file_of(tmp_path, [question(n) for n in range(30)]))
    twice = load_conversations(file_of(tmp_path, [question(n % 30) for n in range(60)]))
    assert once.digest == twice.digest


def test_what_was_held_out_has_the_digest_of_all(tmp_path: Path) -> None:
    data = load_conversations(file_of(tmp_path, [question(n) for n in range(60)]))
    assert hold_out_conversations(data, 0.0) is data
    assert hold_out_conversations(data, 0.2).digest == data.digest
    with pytest.raises(InvalidInput, match=r"too few conversations to hold out 0\.0001"):
        hold_out_conversations(data, 0.0001)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("What?", r'line 2 of Small Talk.jsonl is not \{"messages"'),
        ('{"messages": "hello"}', "line 2 of Small Talk.jsonl is not"),
        ('{"messages": [{"role": "pirate", "content": "Arr"}]}', "line 2 of Small Talk.jsonl is not"),
        ('{"messages": [{"role": "user", "content": 1}]}', "line 2 of Small Talk.jsonl is not"),
        ("[]", "line 2 of Small Talk.jsonl is not"),
        (line([]), "take turns until an answer; here come no messages"),
        (line(question(1)[:1]), "here come user"),
        (line(question(1)[::-1]), "here come assistant, user"),
        (line([*question(1), ("user", "?")]), "here come user, assistant, user"),
        (line([*question(1), ("system", "!")]), "here come user, assistant, system"),
    ],
)
def test_lines_that_are_no_conversation(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "Small Talk.jsonl"
    path.write_text(f"{line(question(1))}\n{text}\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=why):
        load_conversations(f"chat:{path}")


@pytest.mark.parametrize(
    "conversations", [[question(n) for n in range(9)], [question(1, str(n)) for n in range(99)]]
)
def test_too_few(tmp_path: Path, conversations: list[Turns]) -> None:
    with pytest.raises(InvalidInput, match="at least 10 are needed, with different beginnings"):
        load_conversations(file_of(tmp_path, conversations))


def test_no_such_file() -> None:
    with pytest.raises(NotFound, match="there is no file"):
        load_conversations("chat:none.jsonl")


def test_conversations_are_no_text(tmp_path: Path) -> None:
    data = load_conversations(file_of(tmp_path, [question(n) for n in range(30)]))
    with pytest.raises(InvalidInput, match="small-talk holds conversations and no text; train smollm2 on it"):
        hold_out_end(data, 0.0)


def test_pairs_of_a_package(tmp_path: Path) -> None:
    package, file = tmp_path / "package.whl", tmp_path / "pairs.jsonl"
    with zipfile.ZipFile(package, "w") as wheel:
        for name, content in {
            "english/b.yml": "categories: [b]\nconversations:\n- - Hello\n  - Hi\n  - Welcome\n",
            "english/a.yml": "conversations:\n- - What is 1+1?\n  - '2'\n- ['é', \"ä\"]\n",
            "english/notes.txt": "- - No\n  - No\n",
            "german/a.yml": "conversations:\n- - Hallo\n  - Na\n",
        }.items():
            wheel.writestr(f"chatterbot_corpus/data/{name}", content)
    chatterbot.write_pairs(package, file)
    pairs = [[message.content for message in turns] for turns in chat_pairs.read_conversations(file)]
    assert pairs == [["What is 1+1?", "2"], ["é", "ä"], ["Hello", "Hi"]]


def test_a_package_that_pip_does_not_find(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NotFound, match=r"(?s)could not be fetched \(.*put chatterbot-english.jsonl there"):
        chatterbot.load()
