"""Limits on the size of a JSON Schema, checked before it is compiled."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from zoo.errors import InvalidInput

MAX_DEPTH = 64  # levels of nested lists and objects
MAX_MULTIPLES = 10_000
"""Maximum sum of a schema's `multipleOf`: each adds as many states, at 10 microseconds and 0.5 KB each."""
MAX_PATTERN_PROPERTIES = 32  # each is compared with all others and with all property names
COMBINING = {"allOf", "anyOf", "oneOf", "$ref"}
DESCRIBING = {
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "examples",
    "readOnly",
    "title",
    "type",
    "writeOnly",
}
"""Keywords that, beside a combining keyword, add no constraint to be merged with it."""

Objects = list[dict[str, Any]]


def require_bounded(schema: dict[str, Any]) -> None:
    """Raises `InvalidInput` with the name of the keyword if a schema is deeper or larger than the limits."""
    objects = list(_objects(schema))
    multiples = sum(_digits(value) for value in _values(objects, "multipleOf", int | float))
    if multiples > MAX_MULTIPLES:
        raise InvalidInput(
            f"multipleOf: a schema's may add up to {MAX_MULTIPLES:,}, without points and zeros at the end"
        )
    if sum(map(len, _values(objects, "patternProperties", dict))) > MAX_PATTERN_PROPERTIES:
        raise InvalidInput(f"patternProperties: a schema may have {MAX_PATTERN_PROPERTIES} of them")
    # A text that must match two patterns needs the product of both automata, which can be large.
    if any(map(_merges, objects)) and len(set(_values(objects, "pattern", str))) > 1:
        raise InvalidInput(
            "pattern: a schema may have one, unless it has neither allOf nor other keywords beside anyOf, "
            "oneOf or $ref"
        )


def _objects(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields all objects in a schema, including the schema itself."""
    waiting: list[tuple[Any, int]] = [(schema, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise InvalidInput(f"a schema may be {MAX_DEPTH} levels deep; use $defs and $ref")
        if isinstance(value, dict):
            yield value
        inside = value.values() if isinstance(value, dict) else value
        waiting += ((each, depth + 1) for each in inside if isinstance(each, dict | list))


def _values(objects: Objects, keyword: str, kind: Any) -> list[Any]:
    """Returns a keyword's values of the given type; a property of the same name has a schema as its value."""
    found = (each.get(keyword) for each in objects)
    return [value for value in found if isinstance(value, kind) and not isinstance(value, bool)]


def _digits(multiple: float) -> int:
    """Returns the number without decimal point and trailing zeros: its number of automaton states."""
    digits = Decimal(str(multiple)).normalize().as_tuple().digits
    return int("".join(map(str, digits[:20])))


def _merges(schema: dict[str, Any]) -> bool:
    """Returns True if several objects constrain the same text, so that their rules are merged."""
    combining = schema.keys() & COMBINING
    several = len(combining) > 1 or bool(schema.keys() - COMBINING - DESCRIBING)
    parts = schema.get("allOf")
    return bool(combining) and (several or (isinstance(parts, list) and len(parts) > 1))
