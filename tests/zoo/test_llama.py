"""The Llama against its papers' formulas, place by place, and against itself as its cache fills."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from zoo.models.llama import (
    Attention,
    Cache,
    FeedForward,
    Llama,
    LlamaConfig,
    LlamaStep,
    Positions,
    angles,
)

VOCABULARY, PLACES = 23, 12
CONFIG = LlamaConfig(layers=2, width=32, heads=4, key_value_heads=2, hidden=40, rotary_base=100.0)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(
    params=[{"key_value_heads": 4}, {"key_value_heads": 2}, {"key_value_heads": 1}, {"window": 3}],
    ids=["multi-head", "grouped", "multi-query", "window"],
)
def model(request: pytest.FixtureRequest) -> Llama:
    return stirred(Llama(replace(CONFIG, **request.param), VOCABULARY))


def stirred(module: Llama) -> Llama:
    """With matrices of a size that makes attention choose, and norms that are not 1."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return module.eval()


def tokens(*shape: int) -> Tensor:
    return torch.randint(0, VOCABULARY, shape)


# The papers, vector by vector


def normalised(x: Tensor, norm: nn.RMSNorm) -> Tensor:
    """[D]: equation 4 of Zhang & Sennrich, with the code's epsilon."""
    mean = sum(number**2 for number in x.tolist()) / len(x)
    return x / math.sqrt(mean + CONFIG.epsilon) * norm.weight


def turned(x: Tensor, place: int) -> Tensor:
    """[K]: equation 15 of Su et al., of pairs that lie half a head apart."""
    half, result = len(x) // 2, torch.empty_like(x)
    for pair in range(half):
        angle = place * CONFIG.rotary_base ** (-2 * pair / len(x))
        one, other = x[pair], x[pair + half]
        result[pair] = one * math.cos(angle) - other * math.sin(angle)
        result[pair + half] = one * math.sin(angle) + other * math.cos(angle)
    return result


def attended(x: Tensor, attention: Attention) -> Tensor:
    """[T, D]: each head of queries asks the keys of its group, no later than its own place, in the window."""
    config = attention.config
    size, shared = config.head_width, config.heads // config.key_value_heads
    result = []
    for place in range(len(x)):
        heads = []
        for head in range(config.heads):
            own = slice(head * size, (head + 1) * size)
            group = slice(head // shared * size, (head // shared + 1) * size)
            query = turned(attention.query.weight[own] @ x[place], place)
            seen = range(max(0, place + 1 - config.window) if config.window else 0, place + 1)
            keys = [turned(attention.key.weight[group] @ x[past], past) for past in seen]
            values = [attention.value.weight[group] @ x[past] for past in seen]
            scores = torch.stack([query @ key / math.sqrt(size) for key in keys]).exp()
            heads.append(sum(s / scores.sum() * v for s, v in zip(scores, values, strict=True)))
        result.append(attention.output.weight @ torch.cat(heads))
    return torch.stack(result)


def fed(x: Tensor, feed_forward: FeedForward) -> Tensor:
    """[D]: equation 6 of Shazeer, FFN_SwiGLU with β = 1."""
    gate = feed_forward.gate.weight @ x
    opened = gate / (1 + torch.exp(-gate)) * (feed_forward.up.weight @ x)
    return feed_forward.down.weight @ opened


def logits_of(text: Tensor, model: Llama) -> Tensor:
    """[T, V] of tokens [T]."""
    x = model.embedding.weight[text]
    for block in model.blocks:
        x = x + attended(torch.stack([normalised(v, block.attention_norm) for v in x]), block.attention)
        x = x + torch.stack([fed(normalised(v, block.feed_forward_norm), block.feed_forward) for v in x])
    return torch.stack([model.embedding.weight @ normalised(v, model.norm) for v in x])


def test_norm_is_the_papers(model: Llama) -> None:
    x = torch.randn(3, CONFIG.width)
    x[2] = 0
    torch.testing.assert_close(model.norm(x), torch.stack([normalised(v, model.norm) for v in x]))


def test_rotation_is_the_papers() -> None:
    heads = torch.randn(2, 3, 7, 8)
    rotated = Positions.of(CONFIG, tokens(2, 7), None).rotate(heads)
    for given, got in zip(heads.flatten(0, 1), rotated.flatten(0, 1), strict=True):
        torch.testing.assert_close(got, torch.stack([turned(x, place) for place, x in enumerate(given)]))


def test_products_depend_on_the_distance_alone() -> None:
    query, key = torch.randn(2, 8)
    positions = Positions.of(CONFIG, tokens(1, 50), None)
    queries, keys = (positions.rotate(x.expand(1, 1, 50, 8))[0, 0] for x in (query, key))
    products = queries @ keys.T
    for distance in (-9, -1, 0, 1, 30):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert products[0].std() > 0.1


def test_far_places_are_turned_exactly() -> None:
    """To 32 bits: at place 8,191 the fastest pair has gone round 1,303 times."""
    exact = 8191 * 10_000.0 ** (-torch.arange(0, 64, 2, dtype=torch.float64) / 64)
    torch.testing.assert_close(angles(8192, 64, 10_000.0)[-1], exact.float(), rtol=1e-7, atol=0)


def test_attention_is_the_papers(model: Llama) -> None:
    attention = model.blocks[0].attention
    x = torch.randn(2, 7, CONFIG.width)
    mixed = attention(x, Positions.of(model.config, tokens(2, 7), None), None)
    torch.testing.assert_close(mixed, torch.stack([attended(row, attention) for row in x]))


def test_feed_forward_is_the_papers(model: Llama) -> None:
    feed_forward = model.blocks[0].feed_forward
    x = torch.randn(3, CONFIG.width)
    torch.testing.assert_close(feed_forward(x), torch.stack([fed(v, feed_forward) for v in x]))


@torch.no_grad()
def test_logits_are_the_papers(model: Llama) -> None:
    texts = tokens(2, 6)
    torch.testing.assert_close(
        model(texts), torch.stack([logits_of(text, model) for text in texts]), rtol=1e-4, atol=1e-4
    )


# Sizes


@pytest.mark.parametrize(
    ("config", "vocabulary", "parameters"),
    [
        # The matrices of SmolLM2-135M, and of nanoGPT's smallest with a gated layer.
        (LlamaConfig(30, 576, 9, 3, 1536, 100_000.0), 49_152, 134_515_008),
        (LlamaConfig(), 65, 65 * 128 + 4 * (4 * 128**2 + 3 * 128 * 352 + 2 * 128) + 128),
    ],
    ids=["SmolLM2-135M", "small"],
)
def test_parameters(config: LlamaConfig, vocabulary: int, parameters: int) -> None:
    with torch.device("meta"):
        model = Llama(config, vocabulary)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("heads", "shared", "message"), [(3, 3, "32 is not 3 heads"), (4, 3, "3 heads of keys")]
)
def test_heads_must_fit(heads: int, shared: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LlamaConfig(width=32, heads=heads, key_value_heads=shared)


def test_it_begins_near_chance() -> None:
    texts = tokens(8, 33)
    logits = Llama(LlamaConfig(), VOCABULARY)(texts[:, :-1])
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), texts[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(VOCABULARY), abs=0.2)


def test_dropout_is_for_training_alone() -> None:
    model = Llama(replace(CONFIG, dropout=0.5), VOCABULARY)
    text = tokens(1, 5)
    assert not torch.equal(model(text), model(text))
    assert torch.equal(model.eval()(text), model(text))


# What a token sees


def test_no_token_sees_what_comes_after(model: Llama) -> None:
    text = tokens(1, 9)
    changed = text.clone()
    changed[0, 5] = (text[0, 5] + 1) % VOCABULARY
    before, after = model(text), model(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:] - after[:, 5:]).abs().amax(dim=2).min() > 1e-3, "and all that follow see it"


def test_a_layer_sees_no_further_than_its_window() -> None:
    model = stirred(Llama(replace(CONFIG, layers=1, window=3), VOCABULARY))
    text = tokens(1, 9)
    changed = text.clone()
    changed[0, 2] = (text[0, 2] + 1) % VOCABULARY
    differences = (model(text) - model(changed)).abs().amax(dim=2)[0]
    assert [difference > 1e-3 for difference in differences.tolist()] == [2 <= n < 5 for n in range(9)]


@pytest.mark.parametrize("chunks", [[1] * 9, [4, 5], [3, 1, 4, 1], [9]])
@torch.no_grad()
def test_reading_in_parts_is_reading_at_once(model: Llama, chunks: list[int]) -> None:
    texts, cache = tokens(3, 9), Cache.empty(model.config, 3, PLACES)
    parts = []
    for part in texts.split(chunks, dim=1):
        parts.append(model(part, cache))
        cache.read.add_(part.shape[1])
    torch.testing.assert_close(torch.cat(parts, dim=1), model(texts), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_rows_of_different_lengths(model: Llama) -> None:
    """Beginnings are read side by side, filled up at their ends; then each goes on from its own."""
    texts, lengths = tokens(3, 9), torch.tensor([2, 5, 1])
    cache = Cache.empty(model.config, 3, PLACES)
    begun = model(texts[:, :5], cache)
    cache.read.copy_(lengths)
    going_on = torch.stack([text[n : n + 4] for text, n in zip(texts, lengths.tolist(), strict=True)])
    continued = model(going_on, cache)
    whole = model(texts)
    for row, length in enumerate(lengths.tolist()):
        got = torch.cat([begun[row, :length], continued[row]])
        torch.testing.assert_close(got, whole[row, : length + 4], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_lies_behind_a_row_does_not_matter(model: Llama) -> None:
    text, clean = tokens(1, 4), Cache.empty(model.config, 1, PLACES)
    soiled = Cache.empty(model.config, 1, PLACES)
    for keys, values in soiled.layers:
        keys.normal_(std=10)
        values.normal_(std=10)
    assert torch.equal(model(text, soiled), model(text, clean))


@torch.no_grad()
def test_a_step_gives_the_logits_asked_for_and_leaves_its_inputs_alone(model: Llama) -> None:
    texts, cache = tokens(2, 7), Cache.empty(model.config, 2, PLACES)
    kept = [tensor for layer in cache.layers for tensor in layer]
    step, wanted = LlamaStep(model), torch.tensor([[3, 0], [2, 2]])
    logits, *after = step(texts[:, :4], cache.read, wanted, *kept)
    whole = model(texts)
    torch.testing.assert_close(logits, whole[torch.arange(2)[:, None], wanted], rtol=1e-4, atol=1e-4)
    assert all(not tensor.any() for tensor in kept)
    logits, *_ = step(texts[:, 4:], cache.read + 4, torch.tensor([[2], [2]]), *after)
    torch.testing.assert_close(logits, whole[:, -1:], rtol=1e-4, atol=1e-4)
