"""Bundles of registered versions: exports them to a folder, or runs them in this process."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training import promotion
from zoo import bundle
from zoo.errors import InvalidInput, NotFound, PromotionRefused
from zoo.tasks import Operation, Task
from zoo.tasks.language_modelling import LanguageModelling
from zoo.version import FP32, Variant


def export(name: str, version: str | None, directory: Path, variant: Variant = FP32) -> str:
    """Copies a version's bundle and an `origin.json` to a new folder; returns the name of the version.

    Makes the variant first if it does not exist yet; raises `PromotionRefused` if it failed its gate.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InvalidInput(f"{directory} is not empty; name a new folder")
    model, version = promotion.resolve(name) if version is None else (name, version)
    if variant != FP32:
        from training.variants import make

        version = make(model, version, variant)
    record = promotion.record_of(model, version)
    if variant != FP32 and record.gate == "failed":
        raise PromotionRefused(
            f"{model} version {version}, {variant}, may not be served: {record.gate_reason}"
        )
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


def best_conversation() -> str:
    """Returns the chat model whose champion has the fewest bits per character; `NotFound` if none."""
    kind = LanguageModelling.model_fields["kind"].default
    rows = [row for row in promotion.leaderboard() if row.champion and row.record.kind == kind]
    for row in sorted(rows, key=lambda row: row.record.value):
        task = bundle.load(promotion.download(row.model, row.version)).task
        if isinstance(task, LanguageModelling) and task.chat is not None:
            return row.model
    raise NotFound("no champion holds conversations; zoo train smollm2 makes one that does")


def ask_champion(
    name: str, fields: Callable[[type[Task]], dict[str, Any]], operation: Operation | None = None
) -> dict[str, Any]:
    """Runs a champion's bundle in this process and returns its answer.

    `fields` returns the request's fields for the type of task. `operation` defaults to the task's own.
    """
    model, version = promotion.resolve(name)
    loaded = bundle.load(promotion.download(model, version))
    graph = loaded.open()
    request = {"model": name, **fields(type(loaded.task))}
    lineage = {
        "model": model,
        "version": version,
        "run_id": loaded.manifest.run_id,
        "digest": loaded.digest,
        "provider": graph.provider,
    }
    return bundle.ask(loaded.task, graph, request, operation) | {"lineage": lineage}
