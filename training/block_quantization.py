"""Weights in few bits: each row's blocks of 32 numbers are whole numbers with a scale and a zero of their own.

The layout is the one of ONNX Runtime's operators MatMulNBits and GatherBlockQuantized.

Shape legend: N outputs, D inputs of a weight, B = D / 32 blocks of a row.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 32


@dataclass(frozen=True)
class Quantized:
    """A weight [N, D] in whole numbers of 4 or 8 bits: the number `q` of a block stands for `(q - zero) * scale`."""

    bits: int
    numbers: NDArray[np.uint8]
    """[N, D * bits / 8]; of two 4-bit numbers in a byte the first is in the low half."""
    scales: NDArray[np.float32]
    """[N, B]."""
    zeros: NDArray[np.uint8]
    """[N, B * bits / 8, rounded up], packed like the numbers."""

    def dequantized(self) -> NDArray[np.float32]:
        """The weight [N, D] that it stands for."""
        blocks = self.scales.shape[1]
        numbers = _unpacked(self.numbers, self.bits).reshape(-1, blocks, BLOCK)
        zeros = _unpacked(self.zeros, self.bits)[:, :blocks, None]
        exact = (numbers.astype(np.float32) - zeros) * self.scales[:, :, None]
        return exact.reshape(len(exact), -1)  # [N, B, 32] -> [N, D]


def quantize(weight: NDArray[np.float32], bits: int) -> Quantized:
    """Rounds a weight [N, D] to the nearest numbers of a grid that spans each block, zero included.

    `ValueError` where D is no multiple of 32.
    """
    if weight.shape[1] % BLOCK:
        raise ValueError(f"a row of {weight.shape[1]} weights is not blocks of {BLOCK}")
    blocks = weight.reshape(len(weight), -1, BLOCK)
    lowest, highest = blocks.min(2, initial=0), blocks.max(2, initial=0)
    largest = 2**bits - 1
    # A block of zeros has no span; any scale stands for it.
    scales = np.where(highest > lowest, (highest - lowest) / np.float32(largest), np.float32(1))
    zeros = np.rint(-lowest / scales)
    numbers = np.clip(np.rint(blocks / scales[:, :, None]) + zeros[:, :, None], 0, largest)
    return Quantized(
        bits,
        _packed(numbers.astype(np.uint8).reshape(weight.shape), bits),
        scales,
        _packed(zeros.astype(np.uint8), bits),
    )


def _packed(numbers: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return numbers
    even = np.pad(numbers, ((0, 0), (0, numbers.shape[1] % 2)))
    return even[:, ::2] | even[:, 1::2] << 4


def _unpacked(numbers: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    return numbers if bits == 8 else np.stack([numbers & 15, numbers >> 4], axis=2).reshape(len(numbers), -1)
