"""Tags of a registered version, which training writes and serving reads.

In the MLflow registry

- a registered model `<architecture>-<dataset>` holds every version of one architecture on one data set;
  each version carries a `VersionRecord` as tags, and the alias `champion` names the one that is served;
- the alias `challenger` names a version that competes with it; its tag `challenger_mode` is a
  `ChallengerMode`;
- a registered model named after the data set (`mnist`) holds copies of champions; the tags `copy_of_model`
  and `copy_of_version` of its `champion` name the best champion of any architecture.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from zoo.errors import InvalidInput

CHAMPION = "champion"
CHALLENGER = "challenger"
CHALLENGER_MODE = "challenger_mode"
COPY_OF_MODEL = "copy_of_model"
COPY_OF_VERSION = "copy_of_version"
Variant = Literal["fp32", "int8", "int4"]
"""Number format of a graph's weights."""
FP32: Variant = "fp32"
INT8: Variant = "int8"
INT4: Variant = "int4"
SHADOW, SHARE = "shadow", "share"


@dataclass(frozen=True)
class ChallengerMode:
    """Mode in which a challenger competes with the champion."""

    share: float = 0.0
    """Share of the requests that it answers; 0 in the shadow, where it runs all requests only to compare."""

    @property
    def name(self) -> str:
        """Name of the mode, `shadow` or `share`."""
        return SHARE if self.share else SHADOW

    def __str__(self) -> str:
        return f"{SHARE}:{self.share:g}" if self.share else SHADOW

    @classmethod
    def from_tag(cls, tag: str) -> Self:
        """Parses a version's tag such as `shadow` or `share:0.1`; `InvalidInput` if it is neither."""
        if tag == SHADOW:
            return cls()
        name, _, share = tag.partition(":")
        if name != SHARE:
            raise InvalidInput(f"{CHALLENGER_MODE}: {tag[:32]!r} is neither {SHADOW} nor {SHARE}:0.1")
        return cls.of_share(share)

    @classmethod
    def of_share(cls, text: str) -> Self:
        """Returns the mode for a share such as `10%` or `0.1`; `InvalidInput` if it is not a share."""
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            raise InvalidInput(f"a share is more than 0 and at most 1, such as 10% or 0.1, not {text[:32]!r}")
        return cls(share)


class VersionRecord(BaseModel):
    """One registered version of a model, whether it passed its gate or not."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    architecture: str
    dataset: str
    kind: str
    metric: str
    """Name of the primary metric, measured on the test split through the bundle."""
    value: float
    metrics: dict[str, float]
    """All test metrics."""
    gate: Literal["passed", "failed"]
    gate_reason: str
    """Reason why the version may or may not be served."""
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # it becomes a folder name
    """SHA-256 of the bundle's manifest."""
    data_digest: str
    seed: int
    parameters: int
    train_seconds: float
    onnx_bytes: int
    latency_ms: float
    """Median time in milliseconds of a request of one row through ONNX Runtime with one CPU thread."""
    variant: str = FP32
    """Number format of the graph's weights."""
    variant_of: str = ""
    """Version from which a variant was made."""

    def to_tags(self) -> dict[str, str]:
        """Returns the record as MLflow tags."""
        fields = self.model_dump()
        return {k: json.dumps(v) if isinstance(v, dict) else str(v) for k, v in fields.items()}

    @classmethod
    def from_tags(cls, tags: dict[str, str]) -> Self:
        """Reads the record from a version's tags; `ValidationError` if they are not the zoo's."""
        fields: dict[str, Any] = dict(tags)
        if "metrics" in fields:
            fields["metrics"] = json.loads(fields["metrics"])
        return cls.model_validate(fields)
