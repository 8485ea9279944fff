"""Chat templates: a conversation written down as a model was taught to read it."""

from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from zoo.errors import InvalidInput


def render(template: str, messages: Sequence[dict[str, Any]]) -> str:
    """The conversation, up to where the answer begins; `InvalidInput` where the template refuses it."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    try:
        return environment.from_string(template).render(messages=messages, add_generation_prompt=True)
    except TemplateError as error:
        raise InvalidInput(f"messages: the model's chat template refuses them: {error}") from error
