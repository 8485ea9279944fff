"""The Transformer: an encoder reads a sequence and a decoder writes another, with attention, not recurrence.

Source: Vaswani et al. (2017), "Attention Is All You Need", arXiv:1706.03762. By default half the layers,
heads and width of its base model, and a quarter of its hidden units. One embedding serves source, target and
output (section 3.4).

Deviations: each sublayer normalises its input (`norm_first`) instead of the sum of its input and output, as
in Xiong et al. (2020), "On Layer Normalization in the Transformer Architecture", arXiv:2002.04745. If the
sums are normalised, gradients near the output are large at first, and training needs a careful warm-up of the
learning rate; otherwise a final norm follows each stack. `dropout` also applies to attention weights and to
the hidden units of feed-forward networks, as in `transformer_base_v2` of the authors' tensor2tensor. The
paper does not give initial weights: here they are Glorot & Bengio's uniform ones (2010, "Understanding the
difficulty of training deep feedforward neural networks"), biases 0, and embeddings from N(0, 1 / D): scaled
by √D they are about as large as the positional encodings added to them; unscaled, as the output's weights,
they give logits with a variance of 1.

With `copying`, the decoder can copy tokens of the source, even those that the output weights have not
learned: a gate mixes the output's probabilities with a distribution over the source's tokens, the
cross-attention weights of the last layer, as in See, Liu & Manning (2017), "Get To The Point",
arXiv:1704.04368.

Shape legend: B batch, S source positions, T target positions, P target positions written before, D width,
V vocabulary, L layers, H heads, K width of a head (D / H).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.layers.attention import MultiHeadAttention, hidden_future, sinusoidal_positions

LEAST = 1e-9  # smallest probability of which a logarithm is taken
KeysValues = tuple[Tensor, Tensor]
"""Keys and values of the memory, each [B, L, H, S, K], or of the past, each [B, L, H, P, K]."""


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of the Transformer, order of normalisation, and copying."""

    width: int = 256
    """Size of a token's vector in every layer; a multiple of `heads`."""
    heads: int = 4
    """Number of attention heads, which share the width."""
    layers: int = 3
    """Number of layers of the encoder, and of the decoder."""
    hidden: int = 512
    """Units of a feed-forward network's hidden layer."""
    dropout: float = 0.1
    """Share of units dropped during training."""
    norm_first: bool = True
    """Normalise a sublayer's input, which trains without a careful warm-up; if not, the sum of its input and
    output, as in the paper."""
    copying: bool = False
    """Allow the decoder to copy tokens of the source; for answers in its words."""


class FeedForward(nn.Sequential):
    """Feed-forward network at each position: [B, T, D] -> [B, T, D]."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(
            nn.Linear(config.width, config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.width),
        )


class Residual(nn.Module):
    """Residual connection around a sublayer: x -> leave(x, sublayer(enter(x))); all [B, T, D]."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.norm_first = config.norm_first

    def enter(self, x: Tensor) -> Tensor:
        """Returns the input of the sublayer."""
        read: Tensor = self.norm(x) if self.norm_first else x
        return read

    def leave(self, x: Tensor, change: Tensor) -> Tensor:
        """Adds the sublayer's output to x, and returns the input of the next connection."""
        changed: Tensor = x + self.dropout(change)
        return changed if self.norm_first else self.norm(changed)


class EncoderLayer(nn.Module):
    """Encoder layer: [B, S, D] -> [B, S, D]."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config.width, config.heads, config.dropout)
        self.feed = FeedForward(config)
        self.around_attention, self.around_feed = Residual(config), Residual(config)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """Applies the layer; `padding` [B, 1, 1, S] is True at positions not to attend to."""
        seen = self.around_attention.enter(x)
        mixed, _ = self.attention(seen, *self.attention.project(seen), padding)
        x = self.around_attention.leave(x, mixed)
        return self.around_feed.leave(x, self.feed(self.around_feed.enter(x)))


class DecoderLayer(nn.Module):
    """Decoder layer: [B, T, D] -> [B, T, D], its keys and values, and its cross-attention weights."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config.width, config.heads, config.dropout)
        self.cross_attention = MultiHeadAttention(config.width, config.heads, config.dropout)
        self.feed = FeedForward(config)
        self.around_attention, self.around_cross_attention = Residual(config), Residual(config)
        self.around_feed = Residual(config)

    def forward(
        self,
        x: Tensor,
        padding: Tensor,
        memory_keys: Tensor,
        memory_values: Tensor,
        past_keys: Tensor,
        past_values: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Takes `padding` [B, 1, 1, S], and keys and values of memory [B, H, S, K] and past [B, H, P, K].

        Returns x, keys and values [B, H, P + T, K], and the cross-attention weights [B, H, T, S].
        """
        seen = self.around_attention.enter(x)
        new_keys, new_values = self.attention.project(seen)
        keys = torch.cat([past_keys, new_keys], dim=2)
        values = torch.cat([past_values, new_values], dim=2)
        future = hidden_future(x.shape[1], past_keys.shape[2], x.device)
        mixed, _ = self.attention(seen, keys, values, future)
        x = self.around_attention.leave(x, mixed)
        asking = self.around_cross_attention.enter(x)
        found, weights = self.cross_attention(asking, memory_keys, memory_values, padding)
        x = self.around_cross_attention.leave(x, found)
        x = self.around_feed.leave(x, self.feed(self.around_feed.enter(x)))
        return x, keys, values, weights


class Transformer(nn.Module):
    """Whole model: source [B, S] and target [B, T], int64 -> logits [B, T, V] of the token after each."""

    def __init__(self, config: TransformerConfig, vocabulary: int, padding: int = 0) -> None:
        """Takes the id of the token that pads sources; `ValueError` if `heads` does not divide `width`."""
        super().__init__()
        self.config, self.padding = config, padding
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.encoder_norm, self.decoder_norm = (
            nn.LayerNorm(config.width) if config.norm_first else nn.Identity() for _ in range(2)
        )
        self.copying = nn.Linear(config.width, 1) if config.copying else None
        self.apply(_initialize)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, past = self.project(self.read(source)), self.nothing(source)
        logits, *_ = self.write(target, source, *memory, *past)
        return logits

    def read(self, source: Tensor) -> Tensor:
        """Encodes a source [B, S] to the memory [B, S, D]."""
        x, padding = self._embed(source, past=0), self._padding(source)
        for layer in self.encoder:
            x = layer(x, padding)
        memory: Tensor = self.encoder_norm(x)
        return memory

    def project(self, memory: Tensor) -> KeysValues:
        """Projects the memory [B, S, D] to the decoder layers' keys and values, each [B, L, H, S, K]."""
        layers: Any = self.decoder  # `ModuleList` loses its modules' type
        keys, values = zip(*(layer.cross_attention.project(memory) for layer in layers), strict=True)
        return torch.stack(keys, dim=1), torch.stack(values, dim=1)

    def nothing(self, source: Tensor) -> KeysValues:
        """Returns the empty keys and values, each [B, L, H, 0, K], of the past before the first token."""
        config = self.config
        shape = (len(source), config.layers, config.heads, 0, config.width // config.heads)
        empty = self.embedding.weight.new_zeros(shape)
        return empty, empty

    def write(
        self,
        tokens: Tensor,
        source: Tensor,
        memory_keys: Tensor,
        memory_values: Tensor,
        past_keys: Tensor,
        past_values: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decodes the next target tokens [B, T] after a past [B, L, H, P, K], which may be that of `nothing`.

        Returns logits [B, T, V], and keys and values [B, L, H, P + T, K], the past for the next call.
        """
        memory, past = (memory_keys, memory_values), (past_keys, past_values)
        logits, keys, values, _ = self._decode(tokens, source, memory, past)
        return logits, keys, values

    def alignment(self, source: Tensor, target: Tensor) -> Tensor:
        """Returns the cross-attention weights [B, L, H, T, S] of a target [B, T] over its source [B, S]."""
        memory, past = self.project(self.read(source)), self.nothing(source)
        *_, weights = self._decode(target, source, memory, past)
        return weights

    def _decode(
        self, tokens: Tensor, source: Tensor, memory: KeysValues, past: KeysValues
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, padding = self._embed(tokens, past[0].shape[3]), self._padding(source)
        kept = []
        # `unbind` instead of an index, whose gradient would be as large as that of all layers together.
        for layer, *given in zip(self.decoder, *(t.unbind(1) for t in (*memory, *past)), strict=True):
            x, *outputs = layer(x, padding, *given)
            kept.append(outputs)
        keys, values, weights = (torch.stack(layers, dim=1) for layers in zip(*kept, strict=True))
        x = self.decoder_norm(x)
        logits = functional.linear(x, self.embedding.weight)
        if self.copying is not None:
            logits = _mixed(logits, weights[:, -1].mean(dim=1), source, self.copying(x))
        return logits, keys, values, weights

    def _embed(self, tokens: Tensor, past: int) -> Tensor:
        x = self.embedding(tokens) * math.sqrt(self.config.width)  # [B, T, D]
        positions = sinusoidal_positions(tokens.shape[1], past, self.config.width, tokens.device)
        embedded: Tensor = self.dropout(x + positions.to(x.dtype))
        return embedded

    def _padding(self, source: Tensor) -> Tensor:
        return (source == self.padding)[:, None, None]  # [B, S] -> [B, 1, 1, S]


class Encoder(nn.Module):
    """Module for the first ONNX graph: source [B, S] -> memory's keys and values, each [B, L, H, S, K]."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, source: Tensor) -> KeysValues:
        return self.transformer.project(self.transformer.read(source))


class DecoderStep(nn.Module):
    """Module for the second ONNX graph: `Transformer.write`, after the encoder has read the source."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self,
        tokens: Tensor,
        source: Tensor,
        memory_keys: Tensor,
        memory_values: Tensor,
        past_keys: Tensor,
        past_values: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return self.transformer.write(tokens, source, memory_keys, memory_values, past_keys, past_values)


def _mixed(logits: Tensor, weights: Tensor, source: Tensor, gate: Tensor) -> Tensor:
    """Returns logits [B, T, V] of a mixture of the output's distribution and one over the source [B, S].

    The share `sigmoid(gate)` [B, T, 1] goes to the source's tokens, in proportion to the attention weights
    [B, T, S] of their positions. Computes at least in single precision: half precision would round the
    logarithms of likely tokens to two digits.
    """
    precise = torch.promote_types(logits.dtype, torch.float32)
    logits, weights, gate = logits.to(precise), weights.to(precise), gate.to(precise)
    places = source[:, None].expand(-1, logits.shape[1], -1)  # [B, T, S]
    copied = torch.zeros_like(logits).scatter_add(2, places, gate.sigmoid() * weights)
    mixture: Tensor = (-gate).sigmoid() * logits.softmax(dim=2) + copied
    return mixture.clamp_min(LEAST).log()


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, 0, module.embedding_dim**-0.5)
