"""A Llama from a GGUF file: its numbers, the order of its rows, its tokens, and files that are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_gguf
import torch
from tiny_gguf import HEADS, KEY_VALUE_HEADS, TOKENS, WIDTH

from training.gguf_model import ImportedModel, read
from zoo.errors import InvalidInput
from zoo.models.llama import Llama, LlamaConfig, Positions

HEAD_WIDTH = WIDTH // HEADS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ImportedModel:
    return read(tiny_gguf.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf"))


def test_what_a_file_says(model: ImportedModel) -> None:
    assert model.config == LlamaConfig(
        layers=2, width=64, heads=4, key_value_heads=2, hidden=96, rotary_base=1e5, epsilon=1e-5
    )
    assert model.ends == ("<|im_end|>", "<|endoftext|>")
    assert model.chat_template == tiny_gguf.TEMPLATE
    assert model.context == 256


def test_weights_are_all_of_a_llama(model: ImportedModel) -> None:
    llama = Llama(model.config, len(TOKENS))
    llama.load_state_dict({name: torch.from_numpy(weight) for name, weight in model.weights.items()})
    assert llama(torch.tensor([[3, 4, 5]])).isfinite().all()


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ("token_embd", "embedding"),
        ("blk.1.attn_v", "blocks.1.attention.value"),
        ("blk.0.attn_output", "blocks.0.attention.output"),
        ("blk.1.ffn_down", "blocks.1.feed_forward.down"),
        ("blk.0.ffn_gate", "blocks.0.feed_forward.gate"),
        ("blk.1.attn_norm", "blocks.1.attention_norm"),
        ("output_norm", "norm"),
    ],
)
def test_numbers_are_those_of_the_file(model: ImportedModel, given: str, ours: str) -> None:
    weight = model.weights[f"{ours}.weight"]
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, tiny_gguf.tensors()[f"{given}.weight"])


def turned_neighbours(rows: np.ndarray, place: int, heads: int) -> np.ndarray:
    """Vectors [H K] as llama.cpp turns them: neighbouring numbers, as parts of a complex number."""
    pairs = rows.reshape(heads, HEAD_WIDTH // 2, 2)
    rates = 1e5 ** (-np.arange(0, HEAD_WIDTH, 2) / HEAD_WIDTH)
    turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * place * rates)
    return np.stack([turned.real, turned.imag], axis=2).reshape(heads, HEAD_WIDTH)


def test_queries_meet_keys_as_in_llama_cpp(model: ImportedModel) -> None:
    given, vector = tiny_gguf.tensors(), np.random.default_rng(1).normal(size=(2, WIDTH))
    near, far = 3, 40
    query = turned_neighbours(given["blk.0.attn_q.weight"] @ vector[0], far, HEADS)
    key = turned_neighbours(given["blk.0.attn_k.weight"] @ vector[1], near, KEY_VALUE_HEADS)
    expected = (query * key.repeat(HEADS // KEY_VALUE_HEADS, axis=0)).sum(axis=1)

    positions = Positions.of(model.config, torch.zeros(1, far + 1, dtype=torch.int64), None)

    def turned(name: str, row: int, place: int, heads: int) -> np.ndarray:
        states = model.weights[f"blocks.0.attention.{name}.weight"] @ vector[row]
        heads_first = torch.tensor(states, dtype=torch.float32).view(1, heads, 1, HEAD_WIDTH)
        return positions.rotate(heads_first.expand(-1, -1, far + 1, -1))[0, :, place].numpy()

    ours = turned("query", 0, far, HEADS) * turned("key", 1, near, KEY_VALUE_HEADS).repeat(2, axis=0)
    np.testing.assert_allclose(ours.sum(axis=1), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("hello w", ["hello", "Ġw"]),
        ("1212", ["1", "2", "1", "2"]),  # digits come one by one, though 12 is a token
        ("a 12", ["a", "Ġ", "1", "2"]),
        ("\n\nhe", ["Ċ", "Ċ", "he"]),  # the line break before a word is no part of those before it
        ("\n\n", ["ĊĊ"]),
        ("é", ["Ã", "©"]),
        ("he\0he", ["he", "he"]),  # a byte that the vocabulary lacks
        ("<|im_start|>he<|im_end|>", ["<|im_start|>", "he", "<|im_end|>"]),
        ("<|im_end", list("<|im_end")),
        ("", []),
    ],
)
def test_tokens(model: ImportedModel, text: str, tokens: list[str]) -> None:
    encoded = model.tokenizer.encode(text, add_special_tokens=False)
    assert encoded.tokens == tokens
    assert encoded.ids == [TOKENS.index(token) for token in tokens]
    assert model.tokenizer.decode(encoded.ids, skip_special_tokens=False) == text.replace("\0", "")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"architecture": "gpt2"}, "architecture 'gpt2'; only llama is read"),
        ({"fields": {"llama.rope.scaling.type": "yarn"}}, "positions are scaled"),
        ({"fields": {"tokenizer.ggml.pre": "llama-bpe"}}, "gpt2 / llama-bpe; only gpt2 / smollm is read"),
        ({"fields": {"tokenizer.chat_template": None}}, "tiny.gguf has no 'tokenizer.chat_template'"),
        ({"more": {"output.weight": np.zeros((len(TOKENS), WIDTH), np.float32)}}, "tensor output.weight"),
    ],
)
def test_other_models_are_refused(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    path = tiny_gguf.write(tmp_path / "tiny.gguf", **changes)
    with pytest.raises(InvalidInput, match=why):
        read(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.gguf"
    path.write_text("no model at all" * 10)
    with pytest.raises(InvalidInput, match=r"text\.gguf is no GGUF file"):
        read(path)
