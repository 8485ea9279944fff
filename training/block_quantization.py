"""Weights in few bits: a row's blocks of 32 are whole numbers, each block with a scale and a zero of its own.

The layout is the one of ONNX Runtime's operators MatMulNBits and GatherBlockQuantized, whose zeros are whole
numbers too. In 4 bits that is coarse: a block's grid cannot lie where it fits best, and weights that somebody
else has already rounded to a grid (llama.cpp's Q4_1, say) would be rounded again. So a weight can be given
further inputs, the sums of each block's inputs, by which the whole block is shifted.

Shape legend: N outputs, D inputs of a weight, B = D / 32 blocks of a row, E = B sums, filled up to blocks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Quantized:
    """A weight [N, D] in whole numbers of 4 or 8 bits: `q` in a block stands for `(q - zero) * scale`."""

    bits: int
    numbers: NDArray[np.uint8]
    """[N, D * bits / 8]; of two 4-bit numbers in a byte the first is in the low half."""
    scales: Floats
    """[N, B]."""
    zeros: NDArray[np.uint8]
    """[N, B * bits / 8, rounded up], packed like the numbers."""

    def dequantized(self) -> Floats:
        """The weight [N, D] that it stands for."""
        rows, blocks = self.scales.shape
        numbers = _unpacked(self.numbers, self.bits).reshape(rows, blocks, BLOCK)
        zeros = _unpacked(self.zeros, self.bits)[:, :blocks, None]
        exact = (numbers.astype(np.float32) - zeros) * self.scales[:, :, None]
        return exact.reshape(rows, -1)  # [N, B, 32] -> [N, D]


def quantize(weight: Floats, bits: int) -> Quantized:
    """Rounds a weight [N, D] to grids that span each block and zero.

    `ValueError` where D is no multiple of 32.
    """
    blocks = _blocks(weight)
    scales, zeros = _grids(blocks.min(2, initial=0), blocks.max(2, initial=0), bits)
    return _rounded(blocks, scales, zeros, bits)


def quantize_shifted(weight: Floats, bits: int) -> Quantized:
    """Rounds a weight [N, D] to grids that span each block: a weight [N, D + E] of inputs and `block_sums`.

    `ValueError` where D is no multiple of 32.
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
    """[D, E]: inputs [..., D] times this are the sums of each block, which `quantize_shifted` wants."""
    blocks = width // BLOCK
    sums = np.zeros((width, blocks + -blocks % BLOCK), np.float32)
    sums[np.arange(width), np.arange(width) // BLOCK] = 1
    return sums


def _blocks(weight: Floats) -> Floats:
    if weight.shape[1] % BLOCK:
        raise ValueError(f"a row of {weight.shape[1]} weights is not blocks of {BLOCK}")
    return weight.reshape(len(weight), -1, BLOCK)


def _grids(lowest: Floats, highest: Floats, bits: int) -> tuple[Floats, Floats]:
    """Scales and zeros [N, B] of grids from about the lowest number to the highest."""
    largest = np.float32(2**bits - 1)
    # Numbers that are all alike have no span; any scale will do.
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
