"""Chat templates: they render messages as the text format that a model was trained on.

A template comes with a model and is third-party code. It runs in Jinja's sandbox, where it can read the
messages and change nothing. Features that could make large values from small ones are removed or metered, see
`zoo.tasks.template_steps`, so that neither the size of its text nor its work is unbounded.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, TemplateReference, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Namespace

from zoo.errors import InputTooLarge, InvalidInput
from zoo.tasks.template_code import MAX_INTEGER_BITS, Counted, size_of
from zoo.tasks.template_steps import STEPS_OF_CALL, STEPS_OF_CODE, STEPS_OF_PIECE, Steps

MAX_TEMPLATE = 1 << 16  # characters; the longest in use have 10,000
MAX_CODE = 6000  # nodes of the syntax tree, compiled in half a second; the longest in use have 2,500
MAX_TEXT = 1 << 20  # characters of the rendered text, and of each intermediate value
STEPS = "steps left"  # not a name that a template could write
PLAIN_FILTERS = {"count", "d", "default", "first", "last", "length"}
"""Filters that take the same time for any value."""
FILTERS = {"items", "lower", "trim", "upper"}
TEXT_WORK = {"lower", "trim", "upper"}
PLAIN_TESTS = {"defined", "undefined"}
TESTS_OF_JINJA = {"filter", "test"}  # they test whether Jinja has a filter or a test of a name
TEXT_METHODS = {
    "endswith",
    "lower",
    "lstrip",
    "rstrip",
    "split",
    "startswith",
    "strip",
    "title",
    "upper",
}
MAPPING_METHODS = {"get", "items", "keys", "values"}
OWN = BlockReference | LoopContext | Macro | Namespace | TemplateReference
"""Jinja's own objects, whose public attributes may all be read."""


def render(
    template: str, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
) -> str:
    """Renders the conversation as a text, which ends where the assistant's answer begins.

    Without `add_generation_prompt` it ends after the last message. Whitespace around blocks is treated as in
    Hugging Face's transformers. Raises `InvalidInput` if the template refuses the messages, fails or takes
    too many steps; `InputTooLarge` if the text has more than `MAX_TEXT` characters.
    """
    given = {"messages": messages, "add_generation_prompt": add_generation_prompt, STEPS: Steps()}
    pieces, length = [], 0
    try:
        for piece in _compiled(template).generate(given):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_TEXT:
                raise _too_large()
    except InvalidInput:
        raise
    except Exception as error:  # third-party code may raise anything
        raise InvalidInput(f"messages do not fit the model's chat template: {error}") from error
    return "".join(pieces)


@lru_cache(maxsize=64)
def _compiled(template: str) -> Template:
    if len(template) > MAX_TEMPLATE:
        raise InvalidInput(f"the model's chat template has more than {MAX_TEMPLATE} characters")
    sandbox = _Sandbox()
    code = sandbox.parse(template)
    if size_of(code) > MAX_CODE:
        raise InvalidInput(f"the model's chat template has more than {MAX_CODE} syntax nodes")
    compiled: Template = sandbox.from_string(Counted().visit(code))
    return compiled


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "-", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], finalize=_plain)
        self.globals = {"range": safe_range, "namespace": Namespace, "raise_exception": _refuse}
        given: Any = self.filters
        tests: Any = self.tests
        self.filters = {name: given[name] for name in PLAIN_FILTERS}
        self.filters |= {name: _counting(name, given[name]) for name in FILTERS}
        self.filters["list"] = _counting("list", list)  # Jinja's own takes the environment as an argument
        self.filters |= {"kept": _kept, "rounds": _rounds, "string": _text, "taken": _taken}
        self.filters |= {"tojson": _as_json, "touched": _touched, "within": _within}
        self.tests = {
            name: test if name in PLAIN_TESTS else _counting(name, test)
            for name, test in tests.items()
            if name not in TESTS_OF_JINJA
        }

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Joins the pieces that a block or a macro writes."""
        pieces = list(pieces)
        if sum(map(len, pieces)) > MAX_TEXT:
            raise _too_large()
        return "".join(pieces)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str):
            return attr in TEXT_METHODS
        if isinstance(obj, Mapping):
            return attr in MAPPING_METHODS
        return isinstance(obj, OWN) and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Disables `format` of texts: its width can be any number."""

    def call(self, context: Context, function: Any, /, *arguments: Any, **named: Any) -> Any:
        steps = _steps(context)
        steps.take(STEPS_OF_CALL)
        owner = getattr(function, "__self__", None)
        given = (*arguments, *named.values())
        if isinstance(owner, str):
            steps.call_method(function.__name__, owner, given)
        elif owner is not None:  # such as a mapping's `get` and a loop's `changed`
            steps.touch(given)
        return _kept(context, super().call(context, function, *arguments, **named))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator in ("*", "**") or (operator == "%" and isinstance(left, str)):
            raise SecurityError(f"it may not take {operator} of a {type(left).__name__}")
        return _kept(context, super().call_binop(context, operator, left, right))


def _steps(context: Context) -> Steps:
    steps: Steps = context.parent[STEPS]
    return steps


def _counting(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a filter or a test so that it takes steps for the values that it reads and makes."""

    @pass_context
    def counting(context: Context, value: Any, *arguments: Any, **named: Any) -> Any:
        steps = _steps(context)
        given = (*arguments, *named.values())
        steps.touch((value, given))
        if name == "in" and given and isinstance(given[0], str):
            steps.search(given[0], value)
        elif name == "list" and isinstance(value, str):
            steps.take(STEPS_OF_PIECE * len(value))
        elif name in TEXT_WORK and isinstance(value, str):
            steps.call_method(name, value, given)
        return _kept(context, work(value, *arguments, **named))

    return counting


@pass_context
def _rounds(context: Context, items: Iterable[Any], code: int) -> Iterator[Any]:
    """Yields the items of a loop and takes steps for each; `code` is the number of nodes in its code."""
    steps = _steps(context)
    for item in items:
        steps.take(STEPS_OF_CODE * code)
        yield item


@pass_context
def _taken(context: Context, code: int) -> None:
    _steps(context).take(STEPS_OF_CODE * code)


@pass_context
def _touched(context: Context, value: Any) -> Any:
    _steps(context).touch(value)
    return value


@pass_context
def _within(context: Context, sought: Any, value: Any) -> bool:
    steps = _steps(context)
    if isinstance(value, str):
        steps.search(value, sought)
    elif isinstance(value, Mapping):
        steps.touch(sought)
    else:
        steps.touch((sought, value))
    return sought in value


@pass_context
def _kept(context: Context, value: Any) -> Any:
    """Checks the size of a value that the template has made, and takes steps for it."""
    if isinstance(value, str | list | tuple) and len(value) > MAX_TEXT:
        raise _too_large()
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        raise SecurityError(f"it may not make an integer of more than {MAX_INTEGER_BITS} bits")
    _steps(context).keep(value)
    return value


def _plain(value: Any) -> Any:
    """Returns the value unless it is a container, whose text could be far longer than itself."""
    if isinstance(value, str | int | float | Undefined | None):
        return value
    raise SecurityError(f"a {type(value).__name__} is no text; tojson makes it one")


@pass_context
def _text(context: Context, value: Any) -> str:
    text = str(_plain(value))
    _steps(context).touch(text)
    return text


@pass_context
def _as_json(context: Context, value: Any) -> str:
    _steps(context).touch(value)
    text: str = _kept(context, json.dumps(value, ensure_ascii=False))
    return text


def _too_large() -> InputTooLarge:
    return InputTooLarge(f"messages: at most {MAX_TEXT} characters are read")


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
