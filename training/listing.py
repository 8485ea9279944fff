"""What the command line lists, as rows of plain values, and the bundles it hands out."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training import promotion
from training.store import connect
from zoo import bundle
from zoo.errors import InvalidInput
from zoo.home import home, tracking_uri
from zoo.tasks import TASKS

if TYPE_CHECKING:
    from training.recipe import Recipe


def architectures() -> list[dict[str, Any]]:
    """Each architecture with its paper, its champions, and a champion's size or its first recipe's."""
    from training import recipes  # torch, which the other listings do without

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
                "parameters": next((r.record.parameters for r in mine), None) or _parameters(first),
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
    """Each registered version, best first within its data set."""
    return [
        {
            "model": row.model,
            "version": row.version,
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


def export(name: str, version: str | None, directory: Path) -> str:
    """Copies a version's bundle to a new folder, with `origin.json` beside it; returns what was written."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InvalidInput(f"{directory} is not empty; name a new folder")
    model, version = promotion.resolve(name) if version is None else (name, version)
    record = promotion.record_of(model, version)
    loaded = bundle.load(promotion.download(model, version))
    staging = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    for file in (*loaded.manifest.files, "manifest.json"):
        shutil.copy(loaded.directory / file, staging / file)
    origin = {
        "model": model,
        "version": version,
        "run_id": loaded.manifest.run_id,
        "record": record.model_dump(),
    }
    (staging / "origin.json").write_text(json.dumps(origin, indent=1), encoding="utf-8")
    if directory.exists():
        directory.rmdir()
    staging.replace(directory)
    return f"{model} version {version}"


def ask_champion(name: str, values: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The answer of a champion's bundle, run in this process, to values given for its payload field."""
    model, version = promotion.resolve(name)
    loaded = bundle.load(promotion.download(model, version))
    graph = loaded.open()
    request = {"model": name, **values(loaded.task.payload)}
    lineage = {
        "model": model,
        "version": version,
        "run_id": loaded.manifest.run_id,
        "digest": loaded.digest,
        "provider": graph.provider,
    }
    return bundle.ask(loaded.task, graph, request) | {"lineage": lineage}


def mlflow_ui_command(host: str, port: int) -> list[str]:
    """Command line of the MLflow UI over the zoo's store."""
    connect()
    return [
        sys.executable, "-m", "mlflow", "ui",
        "--backend-store-uri", tracking_uri(),
        "--default-artifact-root", (home() / "artifacts").as_uri(),
        "--host", host, "--port", str(port), "--workers", "1",
    ]  # fmt: skip


def _parameters(recipe: "Recipe") -> int:
    data = recipe.load_data()
    task = TASKS[data.kind].fit(data.train, data.schema)
    return sum(p.numel() for p in recipe.build_model(task).parameters())
