"""int8 quantization of an image classifier: smaller, and often faster.

Static quantisation in ONNX's QDQ format: weights are rounded to 8 bits with a scale per channel, activations
to 8 bits in the range that they had on training images.

Source: Jacob et al. (2018), "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", arXiv:1712.05877.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

CALIBRATION_IMAGES = 512
CALIBRATION_BATCH = 32
# Operators that gain from int8 arithmetic, and those between them that can stay in int8.
QUANTISED = ["Conv", "Gemm", "MatMul", "Relu", "MaxPool", "Add", "GlobalAveragePool", "Flatten", "Reshape"]


def quantise(path: Path, images: NDArray[np.uint8]) -> bytes:
    """Returns an image classifier's int8 graph, calibrated on a sample of training images [N, H, W, C]."""
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantised = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
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
    """Batches of images, sampled at random from the training split."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        count = min(CALIBRATION_IMAGES, len(images))
        chosen = np.random.default_rng(0).choice(len(images), count, replace=False)
        self._batches: Iterator[NDArray[np.uint8]] = iter(
            np.array_split(images[np.sort(chosen)], -(-count // CALIBRATION_BATCH))
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}
