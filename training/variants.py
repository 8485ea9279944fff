"""int8 variants: a registered network with whole numbers in its convolutions, smaller and often faster.

Static quantisation in ONNX's QDQ form: weights are rounded to 8 bits channel by channel, and activations
to the range that they had on training images. A variant is a version like any other, of the same
registered model, measured through its own graph; it passes its gate, and so may be served, only if its
accuracy is within half a point of the version that it was made of.

Source: Jacob et al. (2018), "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", arXiv:1712.05877.
"""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from training import promotion, tracking
from training.datasets import Data
from training.pipeline import latency_ms
from training.recipes import restore
from zoo import bundle
from zoo.bundle import Bundle, Identity
from zoo.errors import InvalidInput, ZooError
from zoo.graph import Graph
from zoo.tasks.image_classification import ImageClassification
from zoo.version import FP32, INT8, VersionRecord

TOLERANCE = 0.005
"""Accuracy that a variant may lose."""
CALIBRATION_IMAGES = 512
CALIBRATION_BATCH = 32
# Layers whose arithmetic is worth it, and those between them that need not go back to fractions.
QUANTISED = ["Conv", "Gemm", "MatMul", "Relu", "MaxPool", "Add", "GlobalAveragePool", "Flatten", "Reshape"]


def int8(name: str, version: str) -> str:
    """The int8 variant of a version of an image classifier, made where there is none yet; its version.

    `InvalidInput` where the version is of another kind or itself a variant; `ZooError` where its training
    data are not what they were.
    """
    record = promotion.record_of(name, version)
    if record.kind != "image_classification" or record.variant != FP32:
        raise InvalidInput(f"{name} version {version} is no fp32 image classifier: only those have variants")
    if (made := promotion.variant_of(name, version, INT8)) is not None:
        return made
    data = restore(tracking.recipe_of(promotion.run_of(name, version))).load_data()
    if data.digest != record.data_digest:
        raise ZooError(f"{data.name} is not the data that {name} version {version} was trained on")
    original = bundle.load(promotion.download(name, version))
    graph = quantise(original.graph_path, data.train["image"])
    with tracking.run(f"{record.architecture} {INT8} of version {version}", record.dataset) as log:
        return _publish(log, original, graph, data, record, version)


def quantise(path: Path, images: NDArray[np.uint8]) -> bytes:
    """The int8 graph of an image classifier's, calibrated on some of the training images [N, H, W, C]."""
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantised = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        logging.getLogger().setLevel(logging.ERROR)
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantised),
            _Images(images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=QUANTISED,
        )
        return quantised.read_bytes()


class _Images(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Batches of images drawn from all over the training split."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        count = min(CALIBRATION_IMAGES, len(images))
        chosen = np.random.default_rng(0).choice(len(images), count, replace=False)
        self._batches: Iterator[NDArray[np.uint8]] = iter(
            np.array_split(images[np.sort(chosen)], -(-count // CALIBRATION_BATCH))
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def _publish(
    log: tracking.RunLog, original: Bundle, graph: bytes, data: Data, record: VersionRecord, version: str
) -> str:
    """Measures, bundles, logs and registers a variant."""
    task = original.task
    assert isinstance(task, ImageClassification)
    run = Graph(graph)
    metrics = task.evaluate(run, data.test)
    lost = record.value - metrics[record.metric]
    reason = f"{record.metric} {metrics[record.metric]:.4f}, {FP32} has {record.value:.4f}: "
    latency = latency_ms(run, task)
    log.params({"architecture": record.architecture, "variant": INT8, "variant_of": version})
    tracking.log_inputs(log, data)
    manifest = original.manifest
    identity = Identity(
        **manifest.model_dump(include=set(Identity.model_fields)) | {"run_id": log.run_id, "metrics": metrics}
    )
    example = {"image": data.test["image"][:1]}
    card = f"{original.read_text('card.md')}\nThis is the {INT8} variant of version {version}: {reason}\n"
    with tempfile.TemporaryDirectory() as folder:
        written = bundle.write(
            Path(folder) / "bundle", identity, task, {"model": graph}, example, data.train, card
        )
        costs = {"latency_ms": latency, "onnx_bytes": float(len(graph))}
        values = {f"test_{name}": value for name, value in metrics.items()}
        model_id = log.model(written, example, values | costs, data)
    update = {
        "value": metrics[record.metric],
        "metrics": metrics,
        "gate": "passed" if lost <= TOLERANCE else "failed",
        "gate_reason": reason + ("within half a point" if lost <= TOLERANCE else "more than half a point"),
        "digest": written.digest,
        "onnx_bytes": len(graph),
        "latency_ms": latency,
        "variant": INT8,
        "variant_of": version,
    }
    return promotion.register(manifest.model, model_id, log.run_id, record.model_copy(update=update))
