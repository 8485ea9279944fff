"""A conversation as the text that a language model continues."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from zoo.tasks.chat_template import render


class Chat(BaseModel):
    """Conversation format that a model was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: str
    """Jinja template, as the model's makers wrote it."""
    ends: tuple[str, ...]
    """Tokens that end a turn or a text; the first is the one that the template writes."""

    def render(self, messages: Sequence[dict[str, Any]], *, asks: bool = True) -> str:
        """Returns the conversation as a text; if `asks`, it ends where the answer begins.

        Raises `InvalidInput` if the template refuses the messages.
        """
        return render(self.template, messages, add_generation_prompt=asks)
