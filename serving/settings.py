"""What an operator may set, from the environment, read once at start."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, DirectoryPath, Field, ValidationError

from zoo.errors import ZooError


class Settings(BaseModel):
    """Each field is the variable `ZOO_<FIELD>`; an empty variable counts as not set."""

    model_config = ConfigDict(frozen=True)

    device: Literal["cpu", "cuda"] = "cpu"
    """Where models run. A device that is not there is an error at start, never another device."""
    threads: Annotated[int, Field(ge=1)] = 1
    """CPU threads of one model's computation; requests are computed side by side on the other cores."""
    queue: Annotated[int, Field(ge=0)] = 64
    """Requests that may wait for a core; the next one is answered 503."""
    generations: Annotated[int, Field(ge=1)] = 16
    """Texts that may be written at the same time; the next request for one is answered 503."""
    deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """Seconds after which a request is answered 504; a request's `X-Request-Timeout` may only shorten it."""
    poll: Annotated[float, Field(gt=0, le=5)] = 1.0
    """Seconds between two looks at the registry."""
    on_demand: Annotated[int, Field(ge=1)] = 8
    """Versions other than champions that stay loaded; the least recently used ones give way."""
    bundles: DirectoryPath | None = None
    """Serve the exported bundles under this directory instead of a registry."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The settings of these variables; `ZooError` names a value that cannot be."""
        given = {name: environment.get(f"ZOO_{name.upper()}") for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in given.items() if value})
        except ValidationError as error:
            problems = (f"ZOO_{str(e['loc'][0]).upper()}={e['input']}: {e['msg']}" for e in error.errors())
            raise ZooError("; ".join(problems)) from None
