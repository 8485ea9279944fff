"""Import of a Llama and its tokenizer from a GGUF file, the format of llama.cpp.

The file's weights are quantized, mostly to 4 bits; they are dequantized to float32. llama.cpp's rotary
positions rotate adjacent elements of a head's queries and keys, our `Llama` rotates elements half a head
apart, so the rows are reordered.

Shape legend: D width, H heads, K width of a head, V vocabulary.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from training.gguf_file import GgufFile, GgufTensor, read_gguf
from zoo.errors import InvalidInput
from zoo.models.llama import LlamaConfig

# llama.cpp's names for the parts of the network and of a block, with our names.
NETWORK = {"token_embd": "embedding", "output_norm": "norm"}
BLOCK = {
    "attn_norm": "attention_norm",
    "attn_q": "attention.query",
    "attn_k": "attention.key",
    "attn_v": "attention.value",
    "attn_output": "attention.output",
    "ffn_norm": "feed_forward_norm",
    "ffn_gate": "feed_forward.gate",
    "ffn_up": "feed_forward.up",
    "ffn_down": "feed_forward.down",
}
TEXT_ENDS = ("<|endoftext|>",)  # separators between training texts of models of this family
CONTROL = 3  # GGUF's type of control tokens, which do not occur in texts


@dataclass(frozen=True)
class ImportedModel:
    """A language model that was read from a file."""

    config: LlamaConfig
    weights: dict[str, NDArray[np.float32]]
    """Weights by parameter name of `Llama`."""
    tokenizer: Tokenizer
    chat_template: str
    """Chat template in Jinja."""
    ends: tuple[str, ...]
    """Tokens that end a turn of the chat template or a text."""
    context: int
    """Maximum number of tokens that the model was trained to read."""


def read(path: Path) -> ImportedModel:
    """Reads a model; raises `InvalidInput` if the file is not GGUF or holds another kind of model."""
    file = read_gguf(path)
    try:
        return _imported(file)
    except InvalidInput:
        raise
    except KeyError as error:
        raise InvalidInput(
            f"{path.name} has no {error}, which a chat model of the Llama family needs"
        ) from error
    except Exception as error:  # any error that a malformed file causes in NumPy or tokenizers
        raise InvalidInput(f"{path.name} is no GGUF file of a chat model: {error}") from error


def _imported(file: GgufFile) -> ImportedModel:
    fields, config = file.fields, _config(file.fields)
    weights = _weights(file.tensors, config)
    blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    if blocks != set(map(str, range(min(config.layers, len(weights) + 1)))):
        raise InvalidInput(f"the file says that it has {config.layers} blocks, and holds {len(blocks)}")
    return ImportedModel(
        config=config,
        weights=weights,
        tokenizer=_tokenizer(fields),
        chat_template=fields["tokenizer.chat_template"],
        ends=_ends(fields),
        context=fields["llama.context_length"],
    )


def _ends(fields: dict[str, Any]) -> tuple[str, ...]:
    tokens = fields["tokenizer.ggml.tokens"]
    end = tokens[fields["tokenizer.ggml.eos_token_id"]]
    return tuple(dict.fromkeys([end, *(token for token in TEXT_ENDS if token in tokens)]))


def _config(fields: dict[str, Any]) -> LlamaConfig:
    if (architecture := fields["general.architecture"]) != "llama":
        raise InvalidInput(f"the file holds a model of the architecture {architecture!r}; only llama is read")
    if scaled := [name for name in fields if name.startswith("llama.rope.scaling")]:
        raise InvalidInput(f"the model's positions are scaled ({', '.join(scaled)}), which Llama does not do")
    return LlamaConfig(
        layers=fields["llama.block_count"],
        width=fields["llama.embedding_length"],
        heads=fields["llama.attention.head_count"],
        key_value_heads=fields["llama.attention.head_count_kv"],
        hidden=fields["llama.feed_forward_length"],
        rotary_base=_shortest(fields["llama.rope.freq_base"]),
        epsilon=_shortest(fields["llama.attention.layer_norm_rms_epsilon"]),
    )


def _shortest(value: float) -> float:
    """Returns the shortest decimal number that rounds to the file's float32 value."""
    return float(str(np.float32(value)))


def _weights(tensors: dict[str, GgufTensor], config: LlamaConfig) -> dict[str, NDArray[np.float32]]:
    from gguf import GGMLQuantizationType, dequantize

    weights = {}
    for given, tensor in tensors.items():
        name, weight = _renamed(given), dequantize(tensor.data, GGMLQuantizationType(tensor.kind))
        if name.endswith("query.weight"):
            weight = halves_apart(weight, config.heads)
        elif name.endswith("key.weight"):
            weight = halves_apart(weight, config.key_value_heads)
        weights[name] = np.array(weight, np.float32)  # a copy, because it may be a view of the mapped file
    return weights


def halves_apart(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """Reorders rows [H K]: elements of a pair that are adjacent become K / 2 apart within their head."""
    pairs = weight.reshape(heads, -1, 2, *weight.shape[1:])  # [H, K / 2, 2, D]
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def _renamed(name: str) -> str:
    """Converts llama.cpp's name of a tensor to our parameter name."""
    match name.split("."):
        case ["blk", number, part, "weight"] if part in BLOCK:
            return f"blocks.{number}.{BLOCK[part]}.weight"
        case [part, "weight"] if part in NETWORK:
            return f"{NETWORK[part]}.weight"
    raise InvalidInput(f"the file holds a tensor {name}, which Llama has not")


def _tokenizer(fields: dict[str, Any]) -> Tokenizer:
    """Returns a byte-pair encoding that splits off each digit, and the rest as GPT-2 (Radford et al. 2019).

    The vocabulary may lack bytes that were not in its training data; such bytes produce no token.
    """
    kind = fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"]
    if kind != ("gpt2", "smollm"):
        raise InvalidInput(f"the file's tokenizer is {' / '.join(kind)}; only gpt2 / smollm is read")
    tokens = fields["tokenizer.ggml.tokens"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer
