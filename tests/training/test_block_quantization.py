"""Weights in few bits."""

import numpy as np
import pytest

from training.block_quantization import BLOCK, block_sums, quantize, quantize_shifted


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


def test_rows_that_are_no_blocks_are_refused() -> None:
    for function in (lambda w: quantize(w, 8), lambda w: quantize_shifted(w, 4)):
        with pytest.raises(ValueError, match="a row of 48 weights is not blocks of 32"):
            function(np.zeros((2, 48), np.float32))


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


@pytest.mark.parametrize("width", [32, 96, 1056])
def test_sums_of_blocks_shift_their_grids(width: int) -> None:
    """Weights on any grid of 16 numbers stay what they are but for a twentieth of a step."""
    random = np.random.default_rng(0)
    numbers = random.integers(0, 16, (5, width // BLOCK, BLOCK))
    numbers[..., :2] = 0, 15
    weight = (0.25 * numbers - random.uniform(0, 4, (5, width // BLOCK, 1))).reshape(5, width)
    made, sums = quantize_shifted(weight.astype(np.float32), 4), block_sums(width)
    inputs = random.standard_normal((7, width)).astype(np.float32)
    extended = np.concatenate([inputs, inputs @ sums], axis=1)
    blocks = inputs.reshape(7, -1, BLOCK).sum(2)
    np.testing.assert_allclose(extended[:, width : width + width // BLOCK], blocks, atol=1e-5)
    np.testing.assert_array_equal(extended[:, width + width // BLOCK :], 0)
    whole = made.dequantized()
    assert whole.shape == (5, extended.shape[1])
    np.testing.assert_allclose(whole[:, :width] + whole[:, width:] @ sums.T, weight, atol=0.25 / 20)
    assert np.abs(quantize(weight.astype(np.float32), 4).dequantized() - weight).max() > 0.1


def test_a_block_of_one_number_is_that_number() -> None:
    weight = np.repeat(np.float32([[3, -0.5, 0]]), BLOCK, axis=1)
    whole = quantize_shifted(weight, 4).dequantized()
    np.testing.assert_allclose(whole[:, :96] + whole[:, 96:] @ block_sums(96).T, weight, atol=0.15)
