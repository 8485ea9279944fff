"""Variants: quantized copies of a registered version, smaller and often faster.

A variant is itself a version of the same registered model, measured through its own graph. It passes its
gate, and may be served, only if it is nearly as good as the version from which it was made.
"""

import tempfile
from pathlib import Path

from training import promotion, tracking
from training.datasets import Data
from training.export import examples
from training.image_quantization import quantise
from training.llama_graph import rebuild
from training.pipeline import latency_ms
from training.recipes import restore
from zoo import bundle
from zoo.bundle import Bundle, Identity
from zoo.errors import InvalidInput, ZooError
from zoo.graph import Graph
from zoo.tasks import Task
from zoo.tasks.image_classification import ImageClassification
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.memory import KeyValueCache
from zoo.version import FP32, INT4, INT8, Variant, VersionRecord

ACCURACY_LOST = 0.005
"""Maximum loss of accuracy of an image classifier."""
PERPLEXITY_GAINED = 1.05
"""Maximum factor by which a language model's perplexity may rise."""


def make(name: str, version: str, variant: Variant) -> str:
    """Returns the version of a variant of a version; makes it if it does not exist yet.

    Raises `InvalidInput` if the version cannot have this variant or is itself a variant, and `ZooError` if
    its training data have changed.
    """
    record = promotion.record_of(name, version)
    original = bundle.load(promotion.download(name, version))
    there_are = variants_of(original.task) if record.variant == FP32 else ()
    if variant not in there_are:
        raise InvalidInput(
            f"{name} version {version} has no variant {variant}; "
            f"there {'is ' + ', '.join(there_are) if there_are else 'are none'}: image classifiers have "
            "int8, and language models with a cache int8 and int4"
        )
    if (made := promotion.variant_of(name, version, variant)) is not None:
        return made
    data = restore(tracking.recipe_of(promotion.run_of(name, version))).load_data()
    if data.digest != record.data_digest:
        raise ZooError(f"{data.name} is not the data that {name} version {version} was trained on")
    if isinstance(original.task, ImageClassification):
        graph = quantise(original.graph_path, data.train["image"])
    else:
        graph = rebuild(original.graph_path.read_bytes(), variant)
    with tracking.run(f"{record.architecture} {variant} of version {version}", record.dataset) as log:
        return _publish(log, original, graph, data, record, version, variant)


def variants_of(task: Task) -> tuple[Variant, ...]:
    """Returns the variants that a model of this task can have, besides fp32."""
    if isinstance(task, ImageClassification):
        return (INT8,)
    cached = isinstance(task, LanguageModelling) and isinstance(task.memory, KeyValueCache)
    return (INT8, INT4) if cached else ()


def _publish(
    log: tracking.RunLog,
    original: Bundle,
    graph: bytes,
    data: Data,
    record: VersionRecord,
    version: str,
    variant: Variant,
) -> str:
    """Measures, bundles, logs and registers a variant."""
    task = original.task
    train, test = task.examples(data.train), task.examples(data.test)
    run = Graph(graph)
    metrics = task.evaluate(run, test)
    passed, reason = _judged(task, metrics, record)
    latency = latency_ms(run, task)
    log.params({"architecture": record.architecture, "variant": variant, "variant_of": version})
    tracking.log_inputs(log, data)
    manifest = original.manifest
    identity = Identity(
        **manifest.model_dump(include=set(Identity.model_fields)) | {"run_id": log.run_id, "metrics": metrics}
    )
    example = examples(task, task.signatures()[0], test, 1)
    card = f"{original.read_text('card.md')}\nThis is the {variant} variant of version {version}: {reason}\n"
    with tempfile.TemporaryDirectory() as folder:
        written = bundle.write(
            Path(folder) / "bundle", identity, task, {"model": graph}, example, train, card
        )
        costs = {"latency_ms": latency, "onnx_bytes": float(len(graph))}
        values = {f"test_{name}": value for name, value in metrics.items()}
        model_id = log.model(written, example, values | costs, data)
    update = {
        "value": metrics[record.metric],
        "metrics": metrics,
        "gate": "passed" if passed else "failed",
        "gate_reason": reason,
        "digest": written.digest,
        "onnx_bytes": len(graph),
        "latency_ms": latency,
        "variant": variant,
        "variant_of": version,
    }
    return promotion.register(manifest.model, model_id, log.run_id, record.model_copy(update=update))


def _judged(task: Task, metrics: dict[str, float], record: VersionRecord) -> tuple[bool, str]:
    """Returns True if a variant is nearly as good as its original version, and a sentence on it."""
    if isinstance(task, ImageClassification):
        lost = record.value - metrics[record.metric]
        passed = round(lost, 6) <= ACCURACY_LOST  # as floats, 0.822 - 0.817 exceeds 0.005
        reason = f"{record.metric} {metrics[record.metric]:.4f}, {FP32} has {record.value:.4f}: "
        return passed, reason + ("within half a point" if passed else "more than half a point")
    before, after = record.metrics["perplexity"], metrics["perplexity"]
    passed = after <= PERPLEXITY_GAINED * before
    reason = f"perplexity {after:.4f}, {FP32} has {before:.4f}: "
    return passed, reason + ("within five hundredths" if passed else "more than five hundredths above it")
