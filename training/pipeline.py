"""Training pipeline, from a recipe to a registered version.

data -> task -> model -> fit -> export -> evaluate through the graph -> bundle -> log -> register -> promote
"""

import dataclasses
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from training import figures, promotion, tracking
from training.datasets import Data, hold_out
from training.export import Parity, as_run, examples, export, parity, same_tokens
from training.loop import Observer, Plan, Points, Progress, fit, seed_of
from training.memory import keep_freed_memory
from training.objectives.base import Objective
from training.probe import fastest
from training.recipe import Recipe, flatten
from training.recipes import recipe_for
from training.report import Trained, card
from zoo import bundle
from zoo.cpu_cores import cpu_cores
from zoo.errors import ProviderUnavailable, ZooError
from zoo.graph import open_graphs
from zoo.home import make_directory
from zoo.tasks import Run, Task
from zoo.version import VersionRecord

logger = logging.getLogger(__name__)

LATENCY_RUNS, LATENCY_SECONDS = 50, 5.0  # maximum runs and seconds of a latency measurement
OTHER_TOKENS = "greedy decoding through the graph writes other tokens than through torch"
EXHIBITIONS = 8  # approximate number of times that a run logs its objective's exhibits


@dataclass(frozen=True)
class RunResult:
    """Result of a training run."""

    run_id: str
    model: str
    version: str
    metric: str
    value: float
    metrics: dict[str, float]
    seconds: float
    """Time of training alone, without export and measurements."""
    champion: bool
    reason: str
    """Reason why the version is the champion, or why not."""


@dataclass(frozen=True)
class Prepared:
    """A recipe with its data, task, model and objective, ready to train."""

    recipe: Recipe
    """Recipe in which measurements have replaced every `auto`."""
    data: Data
    task: Task
    model: nn.Module
    objective: Objective
    fabric: Fabric
    plan: Plan
    parameters: int
    fresh: list[str]
    """Names of the parameters that the pretrained weights, if there are any, did not replace."""
    speeds: dict[str, float]
    """Examples per second by number format and memory layout, for those that were measured."""

    @property
    def kind(self) -> str:
        """Kind of the task."""
        return str(type(self.task).model_fields["kind"].default)


def train(recipe: Recipe, watch: Observer | None = None, resume: str | None = None) -> RunResult | None:
    """Trains, exports, measures, logs, registers and promotes; `resume` is the id of a killed run to resume.

    Returns None in all processes except that of the first device. An error marks the run as failed and is
    raised.
    """
    for needed in recipe.prerequisites():
        if promotion.champion(needed.model_name) is None:
            train(needed, watch)
    with torch_settings(recipe):
        prepared = prepare(recipe)
        if not prepared.fabric.is_global_zero:
            train_prepared(prepared, _observe_nothing, _shared_checkpoint(resume))
            return None
        started = tracking.resumed(resume) if resume else tracking.run(run_name(recipe), recipe.dataset_name)
        with started as log:
            _open_log(log, prepared)  # repeated for a resumed run, which may have been killed in this call

            def observe(progress: Progress, points: Points) -> None:
                log.points(points)
                _exhibit(log, prepared, progress)
                warn(log, prepared, progress, points)
                if watch is not None:
                    watch(progress, points)

            progress = train_prepared(prepared, observe, tracking.scratch(log.run_id) / tracking.CHECKPOINT)
            return _publish(log, prepared, progress, _rival(log, prepared, watch))


def prepare(recipe: Recipe) -> Prepared:
    """Loads the data, fits the task on the training split, and builds the model and its objective."""
    keep_freed_memory()
    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise ProviderUnavailable("torch sees no CUDA device; train with --device cpu")
    data = hold_out(recipe.load_data(), recipe.validation_share, recipe.seed)
    task = recipe.fit_task(data)
    data = replace(
        data,
        train=task.examples(data.train),
        test=task.examples(data.test),
        validation=None if data.validation is None else task.examples(data.validation),
        held_out_of=data.digest,  # digest of the raw data
    )
    if recipe.patience is not None and data.validation is None:
        raise ZooError(
            "early stopping (--patience) needs a validation split: raise --validation-share above 0"
        )
    rows = len(data.train["target"])
    steps = recipe.epochs * -(-rows // (recipe.batch_size or rows))

    def build(recipe: Recipe) -> tuple[nn.Module, list[str], Objective, Fabric]:
        fabric = _fabric(recipe)
        torch.manual_seed(seed_of(recipe.seed))
        try:
            model = recipe.build_model(task)
            fresh = recipe.pretrain(model)
            return model, fresh, recipe.build_objective(model, task, fabric, steps), fabric
        except ValueError as error:  # a size or rate that the model or torch rejects
            raise ZooError(f"{recipe.architecture} cannot be built: {error}") from error

    speeds: dict[str, float] = {}
    recipe, *others = recipe.candidates()
    if others and int(os.environ.get("WORLD_SIZE", "1")) == 1:  # several processes might choose differently
        recipe, speeds = fastest([recipe, *others], data.train, lambda candidate: build(candidate)[2:])
    model, fresh, objective, fabric = build(recipe)
    plan = Plan(
        recipe.epochs, recipe.batch_size, recipe.seed, recipe.patience, recipe.log_every, recipe.log_steps
    )
    parameters = sum(p.numel() for p in model.parameters())
    return Prepared(recipe, data, task, model, objective, fabric, plan, parameters, fresh, speeds)


def _fabric(recipe: Recipe) -> Fabric:
    """Returns the recipe's devices and number format."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it logs every number format
    fabric = Fabric(
        accelerator="cuda" if recipe.device != "cpu" and torch.cuda.is_available() else "cpu",
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),  # set by torchrun
        num_nodes=int(os.environ.get("WORLD_SIZE", "1")) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        # Fabric's own 64-true rounds every output to 32 bits; `torch_settings` does not.
        precision="bf16-mixed" if recipe.precision == "bf16-mixed" else "32-true",
    )
    fabric.launch()
    return fabric


def train_prepared(prepared: Prepared, observe: Observer, checkpoint: Path | None = None) -> Progress:
    """Runs the training loop on the result of `prepare`."""
    data = prepared.data
    try:
        return fit(
            prepared.objective,
            data.train,
            data.validation,
            prepared.plan,
            prepared.fabric,
            observe,
            checkpoint,
            prepared.task.lengths(data.train),
        )
    except RuntimeError as error:
        if "primitive descriptor" not in str(error):  # oneDNN's message: not on this processor
            raise
        raise ZooError(
            f"this processor cannot train {prepared.recipe.architecture} in {prepared.recipe.precision}: "
            "train with --precision 32-true"
        ) from error


@contextmanager
def torch_settings(recipe: Recipe) -> Iterator[None]:
    """Sets torch's default dtype and number of CPU threads to the recipe's; restores them on exit."""
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64 if recipe.precision == "64-true" else torch.float32)
    available = min(threads, cpu_cores())
    torch.set_num_threads(available if recipe.threads is None else recipe.threads)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)


def _exhibit(log: tracking.RunLog, prepared: Prepared, progress: Progress) -> None:
    """Stores an objective's exhibits, a few times per run."""
    every = max(1, prepared.recipe.epochs // EXHIBITIONS)
    if progress.epoch % every == 0:
        for name, shown in prepared.objective.exhibits().items():
            stem = f"{name}_epoch_{progress.epoch:03d}"
            if isinstance(shown, str):
                log.text(shown, f"samples/{stem}.txt")
            else:
                log.figures({stem: figures.image_table(shown, name)})


def warn(log: tracking.RunLog, prepared: Prepared, progress: Progress, points: Points) -> None:
    """Logs signs of failure that the objective detects, as a warning and as a tag of the run."""
    means = {
        name.removeprefix("train_"): values[-1][1]
        for name, values in points.items()
        if name.startswith("train_")
    }
    signs = prepared.objective.failure_signs(means)
    if signs:
        message = f"epoch {progress.epoch}: {'; '.join(signs)}"
        logger.warning("%s: %s", prepared.recipe.model_name, message)
        log.tags({"failure_sign": message})


def _rival(log: tracking.RunLog, prepared: Prepared, watch: Observer | None) -> float | None:
    """Trains the recipe's rival, if it has one, in a nested run; returns its primary test metric."""
    rival = prepared.recipe.rival()
    if rival is None:
        return None
    name = f"{run_name(rival)} for comparison"
    with tracking.run(name, rival.dataset_name, log.run_id, system_metrics=False) as nested:
        other = prepare(rival)
        nested.params({"architecture": rival.architecture, **flatten(other.recipe)})

        def observe(progress: Progress, points: Points) -> None:
            nested.points(points)
            if watch is not None:
                watch(progress, points)

        train_prepared(other, observe)
        # Not exported to a graph, because it is never served.
        run = as_run(other.objective.export_module(), other.task)
        metrics = rival.evaluate(other.task, run, other.data)
        nested.points({f"test_{name}": [(0, value)] for name, value in metrics.items()})
    return metrics[other.task.primary_metric]


def _publish(log: tracking.RunLog, prepared: Prepared, progress: Progress, rival: float | None) -> RunResult:
    """Exports, measures, bundles, logs, registers and promotes a trained model."""
    recipe, data, task = prepared.recipe, prepared.data, prepared.task
    module = prepared.objective.export_module()
    graphs = export(module, task)
    # As many threads as training had. Only the latency below is measured with one thread, as in the service.
    run = open_graphs(list(graphs.values()), threads=torch.get_num_threads())
    agreement = parity(module, run, task, data.test)
    reasons = [] if same_tokens(module, run, task, data.test) else [OTHER_TOKENS]
    if data.validation is not None:
        task = task.calibrated(run, data.validation)
    metrics = recipe.evaluate(task, run, data)
    trained = Trained(recipe, data, task, progress, module, run, metrics, prepared.parameters)
    report = recipe.report(trained)
    identity = bundle.Identity(
        model=recipe.model_name,
        architecture=recipe.architecture,
        dataset=recipe.dataset_name,
        kind=prepared.kind,
        run_id=log.run_id,
        data_digest=data.digest,
        parameters=prepared.parameters,
        metrics=metrics,
    )
    example = examples(task, task.signatures()[0], data.test, 1)
    latency = latency_ms(open_graphs(list(graphs.values())), task)
    onnx_bytes = sum(map(len, graphs.values()))
    test_metrics = {f"test_{name}": value for name, value in (metrics | report.metrics).items()}
    if rival is not None:
        name = task.primary_metric
        test_metrics |= {
            f"test_from_scratch_{name}": rival,
            "test_gain_over_scratch": metrics[name] - rival,
        }
    costs = {
        "train_seconds": progress.seconds,
        "tracking_seconds": log.seconds,
        "latency_ms": latency,
        "onnx_bytes": float(onnx_bytes),
        "export_deviation": agreement.deviation,
        "export_tolerance": agreement.tolerance,
    }
    with tempfile.TemporaryDirectory() as folder:
        text = card(trained, report.sections)
        written = bundle.write(Path(folder) / "bundle", identity, task, graphs, example, data.train, text)
        log.flush()
        log.figures(report.figures)
        log.text(text, "card.md")
        log.weights(recipe.kept_weights(prepared.model))
        model_id = log.model(written, example, test_metrics | costs, data)
    reasons += _gate(recipe, task, agreement, metrics)
    record = VersionRecord(
        architecture=recipe.architecture,
        dataset=recipe.dataset_name,
        kind=prepared.kind,
        metric=task.primary_metric,
        value=metrics[task.primary_metric],
        metrics=metrics,
        gate="failed" if reasons else "passed",
        gate_reason="; ".join(reasons) or "parity, checker, golden request and the recipe's bar hold",
        digest=written.digest,
        data_digest=data.digest,
        seed=recipe.seed,
        parameters=prepared.parameters,
        train_seconds=progress.seconds,
        onnx_bytes=onnx_bytes,
        latency_ms=latency,
    )
    version = promotion.register(recipe.model_name, model_id, log.run_id, record)
    refused = promotion.promote_if_better(recipe.model_name, version)
    log.tags({"version": version, "gate": record.gate, "promotion": refused or "champion"})
    return RunResult(
        run_id=log.run_id,
        model=recipe.model_name,
        version=version,
        metric=task.primary_metric,
        value=metrics[task.primary_metric],
        metrics=metrics,
        seconds=progress.seconds,
        champion=refused is None,
        reason=refused or "the best so far",
    )


def _gate(recipe: Recipe, task: Task, agreement: Parity, metrics: dict[str, float]) -> list[str]:
    """Returns the reasons why a version may not be served; empty if it may be."""
    reasons = []
    if not agreement.holds:
        reasons.append(
            f"the graph deviates from torch by {agreement.deviation:.2e}, more than {agreement.tolerance:.1e}"
        )
    value = metrics[task.primary_metric]
    if recipe.bar is not None and value != recipe.bar and not task.better(value, recipe.bar):
        reasons.append(f"{task.primary_metric} {value:.6g} does not reach the recipe's bar of {recipe.bar:g}")
    return reasons


def latency_ms(run: Run, task: Task) -> float:
    """Returns the median time, in ms, of one row through a run, or of one answer that takes many runs."""
    inputs = task.example_inputs(1)
    ask = partial(run, inputs)
    if task.generate is not None:
        ask = partial(task.answer, run, task.request_type.model_validate(task.request_for(inputs, "-")))
    times: list[float] = []
    while len(times) < LATENCY_RUNS and sum(times) < LATENCY_SECONDS:
        started = time.perf_counter()
        ask()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def _open_log(log: tracking.RunLog, prepared: Prepared) -> None:
    recipe = prepared.recipe
    folder = tracking.scratch(log.run_id)
    make_directory(folder)
    saved = {"architecture": recipe.architecture, "recipe": dataclasses.asdict(recipe)}
    staging = folder / f".{tracking.RECIPE}"
    text = json.dumps(saved, indent=1)
    staging.write_text(text, encoding="utf-8")
    staging.replace(folder / tracking.RECIPE)
    log.text(text, tracking.RECIPE)
    log.params({"architecture": recipe.architecture, **flatten(recipe), "parameters": prepared.parameters})
    log.points({f"examples_per_second.{name}": [(0, rate)] for name, rate in prepared.speeds.items()})
    if prepared.fresh:
        log.tags({"transfer.fresh": ", ".join(prepared.fresh)[:5000]})
    tracking.log_inputs(log, prepared.data)


def _observe_nothing(progress: Progress, points: Points) -> None:
    """Does nothing: only the process of the first device logs."""


def _shared_checkpoint(resume: str | None) -> Path | None:
    return tracking.scratch(resume) / tracking.CHECKPOINT if resume else None


def run_name(recipe: Recipe) -> str:
    """Returns the architecture and all settings that differ from the recipe's defaults for the data set."""
    usual = flatten(recipe_for(recipe.architecture, recipe.dataset))
    changed = [
        f"{name.removesuffix('.name').split('.')[-1]}={value}"
        for name, value in flatten(recipe).items()
        if name in usual and value != usual[name]
    ]
    return " ".join([recipe.architecture, *changed])
