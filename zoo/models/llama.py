"""A decoder-only Transformer: predicts the next token from the tokens so far, with attention in each layer.

Source: Touvron et al. (2023), "LLaMA: Open and Efficient Foundation Language Models", arXiv:2302.13971, with
its parts: Zhang & Sennrich (2019), "Root Mean Square Layer Normalization", arXiv:1910.07467; Su et al.
(2021), "RoFormer: Enhanced Transformer with Rotary Position Embedding", arXiv:2104.09864; Ainslie et al.
(2023), "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints",
arXiv:2305.13245; Shazeer (2020), "GLU Variants Improve Transformer", arXiv:2002.05202; Press & Wolf (2017),
"Using the Output Embedding to Improve Language Models", arXiv:1608.05859.
Deviations: dropout, for small data sets; a window, as in Jiang et al. (2023), "Mistral 7B", arXiv:2310.06825;
the two numbers of a rotated pair lie half a head apart.

Shape legend: B batch, T tokens that are read, S positions of the cache, D width, H heads, G heads of keys and
values, K width of a head, F hidden width, V vocabulary.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

EMBEDDING_DEVIATION = 0.02  # of the normal distribution of initial weights (as in the paper's code)


@dataclass(frozen=True)
class LlamaConfig:
    """Configuration of a Llama."""

    layers: int = 4
    """Number of blocks of attention and a feed-forward layer."""
    width: int = 128
    """Size of a token's vector."""
    heads: int = 4
    """Number of attention heads."""
    key_value_heads: int = 4
    """Number of heads of keys and values, shared equally by the attention heads: a divisor of `heads`."""
    hidden: int = 0
    """Hidden units of a feed-forward layer; 0 for 8/3 of the width, rounded up to a multiple of 32."""
    rotary_base: float = 10_000.0
    """Base of the rotary angles: the longest wavelength in units of 2 π positions."""
    epsilon: float = 1e-5
    """Small term that keeps the normalisation of a vector of zeros finite."""
    window: int = 0
    """Number of tokens that each token sees, including itself; 0 for all. With a window, texts can be longer
    than in training."""
    dropout: float = 0.0
    """Share of each layer's output, and of the embedding, dropped during training."""

    @property
    def head_width(self) -> int:
        """Width K of a head."""
        return self.width // self.heads

    @property
    def hidden_units(self) -> int:
        """Hidden width F of a feed-forward layer."""
        return self.hidden or -(-8 * self.width // 3 // 32) * 32

    def __post_init__(self) -> None:
        if self.width % self.heads or self.head_width % 2:
            raise ValueError(f"a width of {self.width} is not {self.heads} heads of an even width")
        if self.heads % self.key_value_heads:
            raise ValueError(f"{self.key_value_heads} heads of keys cannot be shared by {self.heads} heads")


@dataclass(frozen=True)
class Cache:
    """Keys and values of the tokens read so far: two tensors [B, G, S, K] for each layer.

    Row b holds `read[b]` tokens; the positions after them are free.
    """

    read: Tensor
    """Number of tokens read, int64 [B]."""
    layers: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def empty(cls, config: LlamaConfig, batch: int, places: int) -> Self:
        """Returns an empty cache for `batch` sequences of at most `places` tokens."""
        shape = (batch, config.key_value_heads, places, config.head_width)
        layers = tuple((torch.zeros(shape), torch.zeros(shape)) for _ in range(config.layers))
        return cls(torch.zeros(batch, dtype=torch.int64), layers)


def angles(places: int, width: int, base: float) -> Tensor:
    """Returns the rotary angle of each pair of numbers of a head at each position, float32 [S, K / 2]."""
    frequencies = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return (torch.arange(places, dtype=torch.float64)[:, None] * frequencies).float()


@dataclass(frozen=True)
class Positions:
    """Positions of the tokens that are read, with their rotation and attention mask, for all layers."""

    cosine: Tensor
    """Cosines of the rotary angles, [T, K] or [B, 1, T, K]."""
    sine: Tensor
    """Sines of the same shape, negated for the first number of each pair."""
    places: Tensor
    """Positions, int64 [T] or [B, T]."""
    seen: Tensor | None
    """Mask, bool [T, S] or [B, 1, T, S], True where a token attends; None for plain causal attention without
    a cache."""

    @classmethod
    def of(cls, config: LlamaConfig, tokens: Tensor, cache: Cache | None) -> Self:
        """Returns the positions of tokens [B, T], which start at 0 or continue a cache."""
        length = tokens.shape[1]
        longest = length if cache is None else cache.layers[0][0].shape[2]
        turned = angles(longest, config.head_width, config.rotary_base).to(tokens.device)  # [S, K / 2]
        places, seen = torch.arange(length, device=tokens.device), None
        if cache is not None:
            places = cache.read[:, None] + places
            turned = turned[places][:, None]  # [B, 1, T, K / 2]
        if cache is not None or 0 < config.window < length:
            past = torch.arange(longest, device=tokens.device)
            distance = (places if cache is None else places[:, None])[..., None] - past
            seen = (distance >= 0) & (distance < (config.window or longest))
        cosine, sine = turned.cos(), turned.sin()
        return cls(torch.cat([cosine, cosine], dim=-1), torch.cat([-sine, sine], dim=-1), places, seen)

    def rotate(self, x: Tensor) -> Tensor:
        """Rotates the pairs of [B, H, T, K], so that dot products depend only on relative positions."""
        return x * self.cosine + x.roll(x.shape[-1] // 2, dims=-1) * self.sine


class Attention(nn.Module):
    """Grouped-query attention of [B, T, D] to itself and to the cached tokens."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        inner = config.key_value_heads * config.head_width
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.key = nn.Linear(config.width, inner, bias=False)
        self.value = nn.Linear(config.width, inner, bias=False)
        self.output = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor, positions: Positions, past: tuple[Tensor, Tensor] | None) -> Tensor:
        """Writes the new keys and values in place into `past`, two tensors [B, G, S, K]."""
        queries = positions.rotate(self._heads(self.query(x)))
        keys = positions.rotate(self._heads(self.key(x)))
        values = self._heads(self.value(x))
        if past is not None:
            index = positions.places[:, None, :, None].expand_as(keys)
            keys, values = past[0].scatter_(2, index, keys), past[1].scatter_(2, index, values)
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, positions.seen, is_causal=positions.seen is None, enable_gqa=True
        )
        attended: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return attended

    def _heads(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        apart = x.view(batch, length, -1, self.config.head_width)
        return apart.transpose(1, 2)  # [B, T, H, K] -> [B, H, T, K]


class FeedForward(nn.Module):
    """SwiGLU: [B, T, D] -> F hidden units, each multiplied by a gate -> [B, T, D]."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.hidden_units, bias=False)
        self.up = nn.Linear(config.width, config.hidden_units, bias=False)
        self.down = nn.Linear(config.hidden_units, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        lowered: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return lowered


class Block(nn.Module):
    """Adds the output of attention to each vector, then the output of the feed-forward layer."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width, config.epsilon)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.RMSNorm(config.width, config.epsilon)
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, positions: Positions, past: tuple[Tensor, Tensor] | None) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), positions, past))
        added: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return added


class Llama(nn.Module):
    """Language model: tokens [B, T] -> logits [B, T, V] of the token after each."""

    def __init__(self, config: LlamaConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, config.epsilon)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # Keeps the scale of the sum of 2 x layers outputs (Radford et al. 2019, GPT-2, section 2.3).
                adds = name.endswith(("output.weight", "down.weight"))
                scale = (2 * config.layers) ** -0.5 if adds else 1.0
                nn.init.normal_(parameter, std=EMBEDDING_DEVIATION * scale)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Returns the logits for sequences from their beginning, or for the continuation of a cache.

        Writes keys and values into the cache; the caller has to update its `read`.
        """
        positions = Positions.of(self.config, tokens, cache)
        x = self.dropout(self.embedding(tokens))
        for number, block in enumerate(self.blocks):
            x = block(x, positions, None if cache is None else cache.layers[number])
        return F.linear(self.norm(x), self.embedding.weight)


class LlamaStep(nn.Module):
    """Module for the ONNX export: the cache is an input and an output, and logits are for given positions."""

    def __init__(self, llama: Llama) -> None:
        super().__init__()
        self.llama = llama

    def forward(self, tokens: Tensor, read: Tensor, places: Tensor, *kept: Tensor) -> tuple[Tensor, ...]:
        """Returns logits [B, P, V] at positions `places` [B, P] of tokens [B, T], and the updated cache.

        `kept` are keys and values [B, G, S, K] of each layer; `read` [B] is the number of tokens they hold.
        """
        after = tuple(tensor.clone() for tensor in kept)
        logits = self.llama(tokens, Cache(read, tuple(zip(after[::2], after[1::2], strict=True))))
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        return logits[rows, places], *after
