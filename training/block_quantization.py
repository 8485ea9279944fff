"""Block quantization of weights: rows are split in blocks of 32 integers with a scale and zero point each.

The layout is that of ONNX Runtime's operators MatMulNBits and GatherBlockQuantized, whose zero points are
integers too. In 4 bits that is coarse: a block's grid cannot be placed where it fits best, and weights that
were already rounded to another grid (such as llama.cpp's Q4_1) would be rounded again. So a weight can get
additional inputs, the sum of each block's inputs, whose weights shift the whole block.

Shape legend: N outputs, D inputs of a weight, B = D / 32 blocks of a row, E = B sums, rounded up to a
multiple of 32.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Quantized:
    """A weight [N, D] in integers of 4 or 8 bits: `q` in a block stands for `(q - zero) * scale`."""

    bits: int
    numbers: NDArray[np.uint8]
    """Packed integers [N, D * bits / 8]; of two 4-bit integers in a byte, the first is in the low half."""
    scales: Floats
    """Scale of each block, [N, B]."""
    zeros: NDArray[np.uint8]
    """Zero point of each block, packed like the numbers: [N, B * bits / 8, rounded up]."""

    def dequantized(self) -> Floats:
        """Returns the weight [N, D] in float32."""
        rows, blocks = self.scales.shape
        numbers = _unpacked(self.numbers, self.bits).reshape(rows, blocks, BLOCK)
        zeros = _unpacked(self.zeros, self.bits)[:, :blocks, None]
        exact = (numbers.astype(np.float32) - zeros) * self.scales[:, :, None]
        return exact.reshape(rows, -1)  # [N, B, 32] -> [N, D]


def quantize(weight: Floats, bits: int) -> Quantized:
    """Rounds each block of a weight [N, D] to a grid that spans its values and 0.

    Raises `ValueError` if D is not a multiple of 32.
    """
    blocks = _blocks(weight)
    scales, zeros = _grids(blocks.min(2, initial=0), blocks.max(2, initial=0), bits)
    return _rounded(blocks, scales, zeros, bits)


def quantize_shifted(weight: Floats, bits: int) -> Quantized:
    """Rounds each block of a weight [N, D] to a grid that spans its values; returns a weight [N, D + E].

    Its inputs are the original ones, followed by their `block_sums`. Raises `ValueError` if D is not a
    multiple of 32.
    """
    blocks = _blocks(weight)
    lowest = blocks.min(2)
    scales, zeros = _grids(lowest, blocks.max(2), bits)
    shifts = lowest + zeros * scales
    made = _rounded(blocks - shifts[:, :, None], scales, zeros, bits)
    added = quantize(np.pad(shifts, ((0, 0), (0, -shifts.shape[1] % BLOCK))), bits)
    zeros = np.concatenate([zeros, _unpacked(added.zeros, bits)[:, : added.scales.shape[1]]], axis=1)
    return Quantized(
        bits,
        np.concatenate([made.numbers, added.numbers], axis=1),
        np.concatenate([made.scales, added.scales], axis=1),
        _packed(zeros.astype(np.uint8), bits),
    )


def block_sums(width: int) -> Floats:
    """Returns a matrix [D, E]: inputs [..., D] times it are the block sums that `quantize_shifted` needs."""
    blocks = width // BLOCK
    sums = np.zeros((width, blocks + -blocks % BLOCK), np.float32)
    sums[np.arange(width), np.arange(width) // BLOCK] = 1
    return sums


def _blocks(weight: Floats) -> Floats:
    if weight.shape[1] % BLOCK:
        raise ValueError(f"a row of {weight.shape[1]} weights is not blocks of {BLOCK}")
    return weight.reshape(len(weight), -1, BLOCK)


def _grids(lowest: Floats, highest: Floats, bits: int) -> tuple[Floats, Floats]:
    """Returns scales and zero points [N, B] of grids from about the lowest value to the highest."""
    largest = np.float32(2**bits - 1)
    # If all values are equal, the span is 0 and any scale will do.
    scales = np.where(highest > lowest, (highest - lowest) / largest, np.float32(1))
    return scales, np.clip(np.rint(-lowest / scales), 0, largest)


def _rounded(blocks: Floats, scales: Floats, zeros: Floats, bits: int) -> Quantized:
    numbers = np.clip(np.rint(blocks / scales[:, :, None]) + zeros[:, :, None], 0, 2**bits - 1)
    packed = _packed(numbers.astype(np.uint8).reshape(len(blocks), -1), bits)  # [N, B, 32] -> [N, D]
    return Quantized(bits, packed, scales, _packed(zeros.astype(np.uint8), bits))


def _packed(numbers: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return numbers
    even = np.pad(numbers, ((0, 0), (0, numbers.shape[1] % 2)))
    return even[:, ::2] | even[:, 1::2] << np.uint8(4)


def _unpacked(numbers: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return numbers
    return np.stack([numbers & 15, numbers >> 4], axis=2).reshape(len(numbers), -1)
