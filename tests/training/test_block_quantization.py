"""Weights in few bits."""

import numpy as np
import pytest

from training.block_quantization import BLOCK, quantize


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("width", [32, 96, 160])
def test_a_weight_is_as_near_as_half_a_step(bits: int, width: int) -> None:
    weight = np.random.default_rng(0).standard_normal((7, width)).astype(np.float32)
    made = quantize(weight, bits)
    assert made.numbers.shape == (7, width * bits // 8)
    assert made.scales.shape == (7, width // BLOCK)
    blocks = weight.reshape(7, -1, BLOCK)
    spans = blocks.max(2, initial=0) - blocks.min(2, initial=0)
    np.testing.assert_allclose(made.scales, spans / (2**bits - 1), rtol=1e-6)
    off = np.abs(made.dequantized() - weight).reshape(blocks.shape)
    # The zero is rounded too, so that the ends may lie half a step further off.
    assert (off.max(2) <= 1.01 * made.scales).all()
    assert (np.median(off, axis=2) <= 0.5 * made.scales).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_numbers_of_the_grid_stay_what_they_are(bits: int) -> None:
    random = np.random.default_rng(0)
    numbers = random.integers(0, 2**bits, (5, 2, BLOCK))
    numbers[..., :2] = 0, 2**bits - 1
    weight = ((numbers - random.integers(0, 2**bits, (5, 2, 1))) * np.float32(0.25)).reshape(5, -1)
    np.testing.assert_array_equal(quantize(weight.astype(np.float32), bits).dequantized(), weight)


def test_zero_stays_zero() -> None:
    weight = np.zeros((2, 64), np.float32)
    weight[0, :32] = 3  # no block of one sign leaves zero out
    np.testing.assert_allclose(quantize(weight, 4).dequantized(), weight, rtol=1e-6)
