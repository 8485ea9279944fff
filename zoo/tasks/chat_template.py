"""Chat templates: messages to the text that a model was trained to read them as.

A template comes with a model and is code of others. It runs in Jinja's sandbox, where it sees the messages
and changes nothing. What could make much of little is left out or measured, so that neither its text nor its
work grows without bound.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from zoo.errors import InputTooLarge, InvalidInput

MAX_TEMPLATE = 1 << 16  # characters; the longest that are in use have 10,000
MAX_TEXT = 1 << 20  # characters that are rendered, and of each value on the way
MAX_STEPS = 100_000  # rounds of loops and calls
STEPS = "steps taken"  # no name that a template could write
FILTERS = {"count", "d", "default", "first", "items", "last", "length", "list", "lower", "trim", "upper"}
METHODS = {
    "endswith",
    "lower",
    "lstrip",
    "rstrip",
    "split",
    "startswith",
    "strip",
    "title",
    "upper",
}  # of texts


def render(
    template: str, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
) -> str:
    """The conversation as a text, which ends where the assistant's answer begins.

    Whitespace around blocks is treated as Hugging Face's transformers do. `InvalidInput` where the template
    refuses the messages or fails; `InputTooLarge` where the text has more than `MAX_TEXT` characters.
    """
    given = {
        "messages": messages,
        "add_generation_prompt": add_generation_prompt,
        STEPS: iter(range(MAX_STEPS)),
    }
    pieces, length = [], 0
    try:
        for piece in _compiled(template).generate(given):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_TEXT:
                raise InputTooLarge(f"messages: at most {MAX_TEXT} characters are read")
    except InvalidInput:
        raise
    except Exception as error:  # whatever the code of others raises
        raise InvalidInput(f"messages do not fit the model's chat template: {error}") from error
    return "".join(pieces)


@lru_cache(maxsize=64)
def _compiled(template: str) -> Template:
    if len(template) > MAX_TEMPLATE:
        raise InvalidInput(f"the model's chat template has more than {MAX_TEMPLATE} characters")
    sandbox = _Sandbox()
    measured = _Measured().visit(sandbox.parse(template))
    compiled: Template = sandbox.from_string(measured)
    return compiled


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], finalize=_plain)
        self.globals = {"range": safe_range, "namespace": Namespace, "raise_exception": _refuse}
        self.filters = {name: self.filters[name] for name in FILTERS}
        self.filters |= {"bounded": _bounded, "counted": _counted, "string": _text, "tojson": _as_json}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        allowed = attr in METHODS if isinstance(obj, str) else True
        return allowed and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """No `format` of texts: a width can be any number."""

    def call(self, context: Context, function: Any, /, *arguments: Any, **named: Any) -> Any:
        _step(context)
        return _bounded(super().call(context, function, *arguments, **named))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator in ("*", "**") or (operator == "%" and isinstance(left, str)):
            raise SecurityError(f"it may not take {operator} of a {type(left).__name__}")
        return _bounded(super().call_binop(context, operator, left, right))


class _Measured(NodeTransformer):
    """Has rounds of loops counted, and the lengths of joined texts checked."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        if node.recursive:
            raise SecurityError("it may not have recursive loops")
        node.iter = _filtered(node.iter, "counted")
        return self.generic_visit(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [_filtered(part, "string") for part in node.nodes]
        return _filtered(node, "bounded")

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.filter = _filtered(node.filter, "bounded")
        return node


def _filtered(node: nodes.Node | None, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None)


def _step(context: Context) -> None:
    if next(context[STEPS], None) is None:
        raise SecurityError(f"it takes more than {MAX_STEPS} steps")


@pass_context
def _counted(context: Context, items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _step(context)
        yield item


def _bounded(value: Any) -> Any:
    if isinstance(value, str | list | tuple) and len(value) > MAX_TEXT:
        raise InputTooLarge(f"messages: at most {MAX_TEXT} characters are read")
    return value


def _plain(value: Any) -> Any:
    """The value, if it is no container: its text could be far longer than the container."""
    if isinstance(value, str | int | float | Undefined | None):
        return value
    raise SecurityError(f"a {type(value).__name__} is no text; tojson makes it one")


def _text(value: Any) -> str:
    return str(_plain(value))


@pass_context
def _as_json(context: Context, value: Any) -> str:
    pieces = _counted(context, json.JSONEncoder(ensure_ascii=False).iterencode(value))
    return str(_bounded("".join(pieces)))


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
