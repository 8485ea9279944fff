"""What a registered version says of itself: the tags that training writes and serving reads.

In the MLflow registry

- a registered model `<architecture>-<dataset>` holds every version of one architecture on one data set;
  each version carries a `VersionRecord` as tags, and the alias `champion` names the one that answers;
- a registered model named after the data set (`mnist`) holds copies of champions; the tags `copy_of_model`
  and `copy_of_version` of its `champion` name the best champion of any architecture.
"""

import json
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

CHAMPION = "champion"
COPY_OF_MODEL = "copy_of_model"
COPY_OF_VERSION = "copy_of_version"
FP32, INT8 = "fp32", "int8"


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
    """Why the version may or may not be served, in words."""
    digest: str
    """SHA-256 of the bundle's manifest."""
    data_digest: str
    seed: int
    parameters: int
    train_seconds: float
    onnx_bytes: int
    latency_ms: float
    """Median of one request of one row through ONNX Runtime, one CPU thread."""
    variant: str = FP32
    """Number format of the graph's weights."""
    variant_of: str = ""
    """The version that a variant was made of."""

    def to_tags(self) -> dict[str, str]:
        """The record as MLflow tags."""
        fields = self.model_dump()
        return {k: json.dumps(v) if isinstance(v, dict) else str(v) for k, v in fields.items()}

    @classmethod
    def from_tags(cls, tags: dict[str, str]) -> Self:
        """The record of a version's tags; `ValidationError` where they are not the zoo's."""
        fields: dict[str, Any] = dict(tags)
        if "metrics" in fields:
            fields["metrics"] = json.loads(fields["metrics"])
        return cls.model_validate(fields)
