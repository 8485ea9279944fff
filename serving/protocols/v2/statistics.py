"""Counts of a version in the format of the Open Inference Protocol's statistics extension.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

from dataclasses import asdict
from typing import Any

from serving.measurements import Duration, Statistics

INFERENCE = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


def rendered(model: str, version: str, counts: Statistics) -> dict[str, Any]:
    """Returns an entry of `model_stats`.

    Responses are not cached, so cache hits and misses are zero; times by batch size are not recorded.
    """
    counted = asdict(counts)
    inference = {name: counted.pop(name) for name in INFERENCE}
    nothing = asdict(Duration(0, 0))
    return {
        "name": model,
        "version": version,
        **counted,
        "inference_stats": {**inference, "cache_hit": nothing, "cache_miss": nothing},
        "batch_stats": [],
    }
