"""Null fields of a request: treated as absent, so that each takes its default or is reported as missing."""

from typing import Any

from pydantic import BaseModel


def without_nulls(cls: type[BaseModel], given: Any) -> Any:
    """Drops null values of known fields and keeps unknown fields; for use as a model's `before` validator."""
    if not isinstance(given, dict) or None not in given.values():
        return given
    known = {field.alias or name for name, field in cls.model_fields.items()}
    return {name: value for name, value in given.items() if value is not None or name not in known}
