"""Fields of a request that are null: as if absent, so that each has its default or is refused as missing."""

from typing import Any

from pydantic import BaseModel


def without_nulls(cls: type[BaseModel], given: Any) -> Any:
    """The fields given that are not null, and unknown ones; to be a model's validator of mode `before`."""
    if not isinstance(given, dict) or None not in given.values():
        return given
    known = {field.alias or name for name, field in cls.model_fields.items()}
    return {name: value for name, value in given.items() if value is not None or name not in known}
