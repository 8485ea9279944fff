"""The graph that is built node by node against the torch module, variants against their own weights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from training.block_quantization import block_sums, quantize, quantize_shifted
from training.llama_graph import VARIANTS, Variant, build
from zoo.graph import Graph
from zoo.models.llama import Llama, LlamaConfig

VOCABULARY, CONTEXT = 67, 40
CONFIG = LlamaConfig(layers=3, width=64, heads=4, key_value_heads=2, hidden=96, rotary_base=1e4)
Caches = list[tuple[NDArray[np.float32], NDArray[np.float32]]]


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def llama(config: LlamaConfig = CONFIG) -> Llama:
    model = Llama(config, VOCABULARY).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms that are not 1; differences between tokens
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def weights_of(model: Llama) -> dict[str, NDArray[np.float32]]:
    return {name: weight.numpy() for name, weight in model.state_dict().items()}


def open_graph(model: Llama, variant: Variant) -> Graph:
    return Graph(build(model.config, weights_of(model), variant, CONTEXT))


def empty(config: LlamaConfig, rows: int, capacity: int = CONTEXT) -> Caches:
    """Of nothing that may be read."""
    shape = rows, config.key_value_heads, capacity, config.head_width
    return [(np.full(shape, np.nan, np.float32),) * 2 for _ in range(config.layers)]


def run(
    graph: Graph,
    tokens: NDArray[np.int64],
    read: list[int],
    caches: Caches,
    places: list[list[int]] | None = None,
) -> tuple[NDArray[np.float32], Caches]:
    wanted = (
        np.tile(np.arange(tokens.shape[1]), (len(tokens), 1))
        if places is None
        else np.array(places, np.int64)
    )
    feeds = {"tokens": tokens, "read": np.array(read), "places": wanted}
    for layer, (keys, values) in enumerate(caches):
        feeds |= {f"keys_{layer}": keys, f"values_{layer}": values}
    out = graph(feeds)
    return out["logits"], [(out[f"next_keys_{i}"], out[f"next_values_{i}"]) for i in range(len(caches))]


def texts(rows: int, length: int) -> NDArray[np.int64]:
    return torch.randint(0, VOCABULARY, (rows, length)).numpy()


@torch.no_grad()
def exact(model: Llama, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
    return model(torch.from_numpy(tokens)).numpy()


@pytest.mark.parametrize("key_value_heads", [1, 2, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, CONTEXT), (3, 7), (5, 2)])
def test_the_graph_is_the_module(key_value_heads: int, shape: tuple[int, int]) -> None:
    model = llama(LlamaConfig(2, 64, 4, key_value_heads, hidden=96, rotary_base=100.0))
    tokens = texts(*shape)
    logits, _ = run(open_graph(model, "fp32"), tokens, [0] * shape[0], empty(model.config, shape[0]))
    np.testing.assert_allclose(logits, exact(model, tokens), atol=1e-5)


@pytest.mark.parametrize("chunks", [[20], [1] * 20, [7, 1, 1, 8, 3], [19, 1], [1, 19]], ids=str)
def test_a_text_in_chunks_is_the_text(chunks: list[int]) -> None:
    model = llama()
    graph, tokens, caches = open_graph(model, "fp32"), texts(1, 20), empty(CONFIG, 1)
    logits, begin = [], 0
    for length in chunks:
        part, caches = run(graph, tokens[:, begin : begin + length], [begin], caches)
        logits.append(part)
        begin += length
    np.testing.assert_allclose(np.concatenate(logits, axis=1), exact(model, tokens), atol=1e-5)


def test_rows_that_hold_differently_many_tokens_go_on_together() -> None:
    model = llama()
    graph, tokens, held = open_graph(model, "fp32"), texts(4, CONTEXT), [0, 1, 17, CONTEXT - 2]
    caches = empty(CONFIG, 4)
    for row, length in enumerate(held):
        if length:
            _, own = run(graph, tokens[row : row + 1, :length], [0], empty(CONFIG, 1))
            caches = [
                tuple(np.concatenate([a[:row], b, a[row + 1 :]]) for a, b in zip(all_rows, one, strict=True))
                for all_rows, one in zip(caches, own, strict=True)
            ]
    for step in range(2):
        read = [length + step for length in held]
        logits, caches = run(graph, tokens[range(4), read][:, None], read, caches)
        expected = exact(model, tokens)[range(4), read]
        np.testing.assert_allclose(logits[:, 0], expected, atol=1e-5)


def test_only_the_wanted_places_have_logits() -> None:
    model = llama()
    graph, tokens = open_graph(model, "fp32"), texts(2, 9)
    whole, cache = run(graph, tokens, [0, 0], empty(CONFIG, 2))
    some, same = run(graph, tokens, [0, 0], empty(CONFIG, 2), [[8, 0], [3, 3]])
    np.testing.assert_allclose(some, [whole[0, [8, 0]], whole[1, [3, 3]]], atol=1e-6)
    np.testing.assert_array_equal(same[-1][0][:, :, :9], cache[-1][0][:, :, :9])
    none, same = run(graph, tokens, [0, 0], empty(CONFIG, 2), [[], []])
    assert none.shape == (2, 0, VOCABULARY)
    np.testing.assert_array_equal(same[-1][1][:, :, :9], cache[-1][1][:, :, :9])


def test_greedy_decoding_writes_what_torch_writes() -> None:
    model = llama()
    graph, prompts, rows = open_graph(model, "fp32"), texts(50, 8), 50
    tokens, caches, read, expected = prompts, empty(CONFIG, rows), 0, prompts
    written = []
    while read < CONTEXT - 1:
        logits, caches = run(graph, tokens, [read] * rows, caches)
        read += tokens.shape[1]
        tokens = logits[:, -1:].argmax(axis=2)
        written.append(tokens)
        expected = np.concatenate([expected, exact(model, expected)[:, -1:].argmax(axis=2)], axis=1)
    np.testing.assert_array_equal(np.concatenate(written, axis=1), expected[:, 8:])
    assert len(np.unique(expected[:, -8:])) > 5  # texts that differ


def test_the_checker_accepts_the_graph() -> None:
    """What it can: it takes ONNX Runtime's operators as they are."""
    for variant in VARIANTS:
        onnx.checker.check_model(onnx.load_from_string(build(CONFIG, weights_of(llama()), variant, CONTEXT)))


# Variants


def rounded(name: str, weight: NDArray[np.float32], variant: Variant) -> NDArray[np.float32]:
    """What a variant makes of a weight."""
    if weight.ndim == 1:
        return weight
    if variant == "int8" or name == "embedding.weight":
        return quantize(weight, 8).dequantized()
    with_sums, width = quantize_shifted(weight, 4).dequantized(), weight.shape[1]
    return with_sums[:, :width] + with_sums[:, width:] @ block_sums(width).T


@pytest.mark.parametrize("variant", ["int8", "int4"])
def test_a_variant_is_the_module_with_rounded_weights(variant: Variant) -> None:
    model, rounding = llama(), llama()
    graph, tokens = open_graph(model, variant), texts(3, 12)
    logits, _ = run(graph, tokens, [0] * 3, empty(CONFIG, 3))
    weights = {name: rounded(name, weight, variant) for name, weight in weights_of(model).items()}
    rounding.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    expected = exact(rounding, tokens)

    def off(answer: NDArray[np.float32]) -> float:
        return float(np.sqrt(np.square(answer - expected).mean() / np.square(expected).mean()))

    assert off(logits) < 0.03  # the inputs of each product are rounded to 8 bits
    if variant == "int4":
        assert off(exact(model, tokens)) > 3 * off(logits)


def test_int4_holds_weights_that_had_4_bits_before() -> None:
    """As of llama.cpp's Q4_1: 16 numbers a block, from wherever it begins."""
    model, random = llama(), np.random.default_rng(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and name != "embedding.weight":
                numbers = random.integers(0, 16, (*parameter.shape[:1], parameter.shape[1] // 32, 32))
                numbers[..., :2] = 0, 15
                blocks = 0.02 * numbers - random.uniform(0.1, 0.2, (*numbers.shape[:2], 1))
                parameter.copy_(torch.from_numpy(blocks.reshape(parameter.shape)))
    tokens = texts(3, 12)
    expected = exact(model, tokens)
    four, eight = (
        np.abs(run(open_graph(model, v), tokens, [0] * 3, empty(CONFIG, 3))[0] - expected).mean()
        for v in ("int4", "int8")
    )
    assert four < 2 * eight < 0.1 * np.abs(expected).mean()


def test_variants_are_small() -> None:
    model = llama(LlamaConfig(layers=2, width=512, heads=8, key_value_heads=8))
    sizes = {v: len(build(model.config, weights_of(model), v, 16)) for v in VARIANTS}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    bits = {variant: 8 * size / parameters for variant, size in sizes.items()}
    assert 32 < bits["fp32"] < 32.5
    assert 9.25 < bits["int8"] < 9.5  # a block of 32 has a scale of 32 bits, and a zero
    assert 5.125 < bits["int4"] < 6.25  # and the weights of the sums


def test_widths_that_the_operators_do_not_take_are_refused() -> None:
    model = llama(LlamaConfig(layers=1, width=48, heads=3, key_value_heads=3, hidden=64))
    with pytest.raises(ValueError, match="a row of 48 weights is not blocks of 32"):
        build(model.config, weights_of(model), "int4", CONTEXT)
    narrow = llama(LlamaConfig(layers=1, width=32, heads=4, key_value_heads=2))
    with pytest.raises(ValueError, match="heads of 8 numbers"):
        build(narrow.config, weights_of(narrow), "fp32", CONTEXT)


def test_a_graph_of_a_file_is_the_one_of_its_bytes(tmp_path: Path) -> None:
    model, tokens = llama(), texts(1, 5)
    graph = build(CONFIG, weights_of(model), "int4", CONTEXT)
    (tmp_path / "llama.onnx").write_bytes(graph)
    answers = [
        run(Graph(source), tokens, [0], empty(CONFIG, 1))[0] for source in (graph, tmp_path / "llama.onnx")
    ]
    np.testing.assert_array_equal(*answers)
