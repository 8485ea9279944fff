"""Bundles of registered versions: handed out as a folder, or asked in this process."""

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
    """Copies a version's bundle to a new folder, with `origin.json` beside it; returns what was written.

    Of a variant that is not there yet, makes it first; `PromotionRefused` where it fails its gate.
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
    """Of the champions that hold conversations, the model with the fewest bits a character."""
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
    """The answer of a champion's bundle, run in this process, to request fields given for its kind.

    Without an operation, the kind's own question is asked.
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
