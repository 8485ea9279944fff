"""Counts of what one version answered, and how the Open Inference Protocol's statistics extension shows them.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Duration:
    """How often something was done, and how long it took in all."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True)
class BatchStatistics:
    """Runs of one batch size."""

    compute_input: Duration = Duration()
    compute_infer: Duration = Duration()
    compute_output: Duration = Duration()


@dataclass(frozen=True)
class VersionStatistics:
    """What one version answered since the service started; successes and failures are counted by request."""

    last_inference: int = 0
    """Milliseconds since 1970; 0 before the first."""
    inference_count: int = 0
    """Rows."""
    execution_count: int = 0
    """Batches."""
    success: Duration = Duration()
    fail: Duration = Duration()
    queue: Duration = Duration()
    compute_input: Duration = Duration()
    compute_infer: Duration = Duration()
    compute_output: Duration = Duration()
    batches: Mapping[int, BatchStatistics] = field(default_factory=dict)
    """By batch size."""


Statistics = Callable[[str, str], VersionStatistics]
"""The counts of a registered model's version."""

INFERENCE = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


def nothing_counted(_model: str, _version: str) -> VersionStatistics:
    """The counts of a version that has answered nothing."""
    return VersionStatistics()


def rendered(model: str, version: str, counts: VersionStatistics) -> dict[str, Any]:
    """An entry of `model_stats`; nothing is cached, so no answer was found in a cache or missed there."""
    inference = {name: getattr(counts, name) for name in INFERENCE}
    return {
        "name": model,
        "version": version,
        "last_inference": counts.last_inference,
        "inference_count": counts.inference_count,
        "execution_count": counts.execution_count,
        "inference_stats": {**inference, "cache_hit": Duration(), "cache_miss": Duration()},
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": batch.compute_input,
                "compute_infer": batch.compute_infer,
                "compute_output": batch.compute_output,
            }
            for size, batch in sorted(counts.batches.items())
        ],
    }
