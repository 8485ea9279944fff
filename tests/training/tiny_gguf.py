"""A Llama of a few thousand numbers with a tokenizer and a chat template, as llama.cpp would store it."""

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quantize
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

LAYERS, WIDTH, HEADS, KEY_VALUE_HEADS, HIDDEN = 2, 64, 4, 2, 96
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "Ġ 1", "1 2", "Ċ Ċ"]
BYTES = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - {"Ā"})  # all but the zero
TOKENS = [*CONTROL, *BYTES, *(merge.replace(" ", "") for merge in MERGES)]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FIELDS: dict[str, Any] = {
    "llama.block_count": LAYERS,
    "llama.context_length": 256,
    "llama.embedding_length": WIDTH,
    "llama.feed_forward_length": HIDDEN,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": KEY_VALUE_HEADS,
    "llama.rope.freq_base": 1e5,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [TokenType.CONTROL] * len(CONTROL)
    + [TokenType.NORMAL] * (len(TOKENS) - len(CONTROL)),
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.chat_template": TEMPLATE,
}
Q4_1, Q8_0 = GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q8_0
SHAPES = {
    "attn_norm": (WIDTH,),
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (WIDTH // 2, WIDTH),
    "attn_v": (WIDTH // 2, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_norm": (WIDTH,),
    "ffn_gate": (HIDDEN, WIDTH),
    "ffn_up": (HIDDEN, WIDTH),
    "ffn_down": (WIDTH, HIDDEN),
}

Tensors = dict[str, NDArray[np.float32]]


def tensors() -> Tensors:
    """By llama.cpp's names, in its order of rows: numbers that 4 bits, or 8, hold exactly."""
    random = np.random.default_rng(0)
    shapes = {f"blk.{n}.{part}.weight": shape for n in range(LAYERS) for part, shape in SHAPES.items()}
    made = {
        name: _on_grid(random.integers(0, 16, shape), 0, 15) / 32 - 0.25 for name, shape in shapes.items()
    }
    embedding = _on_grid(random.integers(-127, 128, (len(TOKENS), WIDTH)), -127, 127) / 512
    made |= {"token_embd.weight": embedding, "output_norm.weight": random.normal(1, 0.1, WIDTH)}
    return {name: tensor.astype(np.float32) for name, tensor in made.items()}


def _on_grid(steps: NDArray[np.int64], least: int, most: int) -> NDArray[np.int64]:
    """With the least and the largest step in each block of 32, which is rounded by itself."""
    steps[..., ::32], steps[..., 1::32] = least, most
    return steps


def write(
    path: Path, architecture: str = "llama", fields: dict[str, Any] | None = None, more: Tensors | None = None
) -> Path:
    """The file, with its matrices in 4 bits and its embedding in 8; None leaves a field out."""
    writer = GGUFWriter(path, architecture)
    for name, value in (FIELDS | (fields or {})).items():
        add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}
        if isinstance(value, list):
            writer.add_array(name, value)
        elif value is not None:
            add[type(value)](name, value)
    for name, tensor in (tensors() | (more or {})).items():
        if tensor.ndim == 1:
            writer.add_tensor(name, tensor)
        else:
            kind = Q8_0 if name == "token_embd.weight" else Q4_1
            writer.add_tensor(name, quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
