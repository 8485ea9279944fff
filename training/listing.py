"""Listings of the command line, as rows of plain values."""

from typing import Any

from training import promotion


def architectures() -> list[dict[str, Any]]:
    """Returns each architecture with paper, champions, and the size of a champion or the first recipe."""
    from training import recipes  # imports torch, which the other listings do not need

    champions = [row for row in promotion.leaderboard() if row.champion]
    rows = []
    for name in recipes.names():
        known = recipes.recipes(name)
        first = next(iter(known.values()))
        mine = [row for row in champions if row.record.architecture == name]
        rows.append(
            {
                "architecture": name,
                "kinds": list(first.kinds),
                "paper": first.paper,
                "parameters": next((r.record.parameters for r in mine), None) or first.parameters,
                "datasets": list(known),
                "champions": [
                    {
                        "dataset": row.record.dataset,
                        "model": row.model,
                        "version": row.version,
                        "metric": row.record.metric,
                        "value": row.record.value,
                    }
                    for row in mine
                ],
            }
        )
    return rows


def leaderboard(dataset: str | None) -> list[dict[str, Any]]:
    """Returns each registered version, the best first within its data set."""
    return [
        {
            "model": row.model,
            "version": row.version,
            "variant": row.record.variant,
            "dataset": row.record.dataset,
            "metric": row.record.metric,
            "value": row.record.value,
            "champion": row.champion,
            "seed": row.record.seed,
            "parameters": row.record.parameters,
            "train_seconds": row.record.train_seconds,
            "onnx_bytes": row.record.onnx_bytes,
            "latency_ms": row.record.latency_ms,
            "gate": row.record.gate,
            "gate_reason": row.record.gate_reason,
            "run_id": row.run_id,
            "data_digest": row.record.data_digest,
        }
        for row in promotion.leaderboard(dataset)
    ]
