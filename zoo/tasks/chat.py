"""A conversation as the text that a language model goes on with."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from zoo.tasks.chat_template import render


class Chat(BaseModel):
    """How a model was taught to hold conversations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: str
    """In Jinja's language, as the model's makers wrote it."""
    ends: tuple[str, ...]
    """Tokens with which a turn or a text ends; the first is the one that the template writes."""

    def render(self, messages: Sequence[dict[str, Any]], *, asks: bool = True) -> str:
        """The conversation; where it `asks`, up to where the answer begins. `InvalidInput` if refused."""
        return render(self.template, messages, add_generation_prompt=asks)
