"""`zoo ask`: a champion in this process answers a question about a text, and shows the passages it read."""

import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from zoo.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from zoo.tasks import Task

STANDARD_INPUT = "-"
INDENT = "  "  # before each line of a passage


@dataclass(frozen=True)
class Ask:
    """Ask a question about a text: a language model answers from the passages that fit it best."""

    file: Annotated[str, tyro.conf.Positional]
    """Text file; - reads the standard input."""
    question: Annotated[str, tyro.conf.Positional]
    """Question to ask about the text."""
    model: str | None = None
    """Registered model, or a data set's name; without it, the best champion that holds conversations."""
    max_tokens: int = 128
    """Maximum number of tokens in the answer."""
    json: bool = False
    """Print the whole answer as one JSON document."""

    def __call__(self) -> None:
        text = _read(self.file)
        if not text.strip():
            raise InvalidInput(f"there is no text in {self.file}")
        from training.bundles import ask_champion, best_conversation
        from zoo.tables import show
        from zoo.tasks.question_answering import ANSWER

        def fields(task: "type[Task]") -> dict[str, Any]:
            if task is not ANSWER.task_type:
                raise InvalidInput(f"{name} is no language model; zoo predict {name} asks it")
            return {"passage": text, "question": self.question, "max_tokens": self.max_tokens}

        name = best_conversation() if self.model is None else self.model
        show(ask_champion(name, fields, ANSWER), self.json, lambda answer: _show(answer, text))


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == STANDARD_INPUT else Path(file).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {file}") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} cannot be read as a text: {error}") from error


def _show(answer: dict[str, Any], text: str) -> None:
    """Prints the answer, and below it the passages, each with its line numbers in the text."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    console.print(f"[bold]{escape(answer['answer'])}[/]")
    for passage, (start, end) in zip(answer["passages"], answer["spans"], strict=True):
        first, last = (text.count("\n", 0, place) + 1 for place in (start, end))
        console.print(f"\n[dim]{'line' if first == last else 'lines'} {_range(first, last)}[/]")
        for line in passage.splitlines():
            shown = fill(line, console.width, initial_indent=INDENT, subsequent_indent=INDENT)
            console.print(escape(shown), soft_wrap=True)
    lineage = answer["lineage"]
    console.print(f"\n[dim]{lineage['model']} version {lineage['version']}[/]")


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
