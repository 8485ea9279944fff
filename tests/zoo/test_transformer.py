"""The Transformer against torch's own layers, the paper's formulas, itself step by step, and its graphs."""

import io
import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from zoo.graph import Graph
from zoo.layers.attention import MultiHeadAttention, attend, hidden_future, sinusoidal_positions
from zoo.models.transformer import (
    DecoderLayer,
    DecoderStep,
    Encoder,
    EncoderLayer,
    Transformer,
    TransformerConfig,
)

VOCABULARY, LAYERS, HEADS, WIDTH = 23, 2, 4, 32
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(params=[True, False], ids=["pre-norm", "post-norm"])
def config(request: pytest.FixtureRequest) -> TransformerConfig:
    return TransformerConfig(WIDTH, HEADS, LAYERS, hidden=48, dropout=0.1, norm_first=request.param)


@pytest.fixture
def model(config: TransformerConfig) -> Transformer:
    transformer = Transformer(config, VOCABULARY).eval()
    stir(transformer)
    return transformer


def stir(module: nn.Module) -> None:
    """Norms and biases that are not 1 and 0, so that none can be left out unseen."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)


def tokens(*shape: int) -> Tensor:
    return torch.randint(1, VOCABULARY, shape)


def padded(rows: int, places: int) -> Tensor:
    """Sources of which all but the first end in padding, the last soonest."""
    source = tokens(rows, places)
    for row in range(1, rows):
        source[row, max(1, places - row) :] = 0
    return source


# Attention


@pytest.mark.parametrize("shape", [(), (5, 7), (3, 1, 1, 7), (3, 2, 5, 7)])
def test_attention_is_torchs(shape: tuple[int, ...]) -> None:
    queries, keys, values = torch.randn(3, 2, 5, 8), torch.randn(3, 2, 7, 8), torch.randn(3, 2, 7, 8)
    hidden = torch.rand(shape) < 0.4 if shape else None
    mixed, weights = attend(queries, keys, values, hidden)
    expected = scaled_dot_product_attention(queries, keys, values, None if hidden is None else ~hidden)
    torch.testing.assert_close(mixed, expected)
    torch.testing.assert_close(weights @ values, expected)
    if hidden is not None:
        assert weights.masked_select(hidden.expand_as(weights)).eq(0).all()


def test_who_sees_nothing_mixes_nothing() -> None:
    queries = torch.randn(1, 1, 2, 4, requires_grad=True)
    keys, values = torch.randn(1, 1, 3, 4), torch.randn(1, 1, 3, 4)
    hidden = torch.tensor([[True, True, True], [True, False, False]])
    mixed, weights = attend(queries, keys, values, hidden)
    assert mixed[0, 0, 0].tolist() == [0] * 4
    torch.testing.assert_close(weights.sum(dim=3), torch.tensor([[[0.0, 1.0]]]))
    mixed.sum().backward()
    assert queries.grad is not None
    assert queries.grad.isfinite().all()


def test_dropout_leaves_weights_out_while_training() -> None:
    attention = MultiHeadAttention(WIDTH, HEADS, dropout=0.5)
    sequence = torch.randn(2, 6, WIDTH)
    keys, values = attention.project(sequence)
    once, twice = (attention(sequence, keys, values, None)[0] for _ in range(2))
    assert not torch.allclose(once, twice)
    attention.eval()
    assert torch.equal(*(attention(sequence, keys, values, None)[0] for _ in range(2)))


def copy_attention(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())


def test_multi_head_attention_is_torchs() -> None:
    ours = MultiHeadAttention(WIDTH, HEADS)
    stir(ours)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    copy_attention(ours, theirs)
    asking, asked = torch.randn(3, 5, WIDTH), torch.randn(3, 7, WIDTH)
    padding = torch.arange(7) >= torch.tensor([[7], [4], [1]])
    got = ours(asking, *ours.project(asked), padding[:, None, None])
    expected = theirs(asking, asked, asked, key_padding_mask=padding, average_attn_weights=False)
    torch.testing.assert_close(got, expected)


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="30 cannot be divided among 4 heads"):
        Transformer(TransformerConfig(width=30, heads=4), VOCABULARY)


def test_the_future_is_hidden() -> None:
    assert hidden_future(2, 3, CPU).tolist() == [[False] * 4 + [True], [False] * 5]
    assert torch.equal(hidden_future(4, 0, CPU), torch.ones(4, 4).triu(1).bool())


@pytest.mark.parametrize("width", [16, 7])
def test_positions_are_the_papers(width: int) -> None:
    places = np.arange(60)
    expected = np.empty((60, width))
    for i in range(width):
        angle = places / 10_000 ** ((i - i % 2) / width)
        expected[:, i] = np.cos(angle) if i % 2 else np.sin(angle)
    positions = sinusoidal_positions(60, 0, width, CPU)
    np.testing.assert_allclose(positions, expected, atol=1e-5)
    assert torch.equal(sinusoidal_positions(4, 50, width, CPU), positions[50:54])


# Layers


def copy_layer(ours: EncoderLayer | DecoderLayer, theirs: nn.Module, norms: list[nn.Module]) -> None:
    copy_attention(ours.attention, theirs.self_attn)
    if isinstance(ours, DecoderLayer):
        copy_attention(ours.cross_attention, theirs.multihead_attn)
    theirs.linear1.load_state_dict(ours.feed[0].state_dict())
    theirs.linear2.load_state_dict(ours.feed[3].state_dict())
    for place, norm in enumerate(norms, start=1):
        theirs.get_submodule(f"norm{place}").load_state_dict(norm.state_dict())


def options(config: TransformerConfig) -> dict[str, Any]:
    return {"batch_first": True, "norm_first": config.norm_first, "dropout": 0.0}


def test_encoder_layer_is_torchs(config: TransformerConfig) -> None:
    ours = EncoderLayer(config).eval()
    stir(ours)
    theirs = nn.TransformerEncoderLayer(WIDTH, HEADS, config.hidden, **options(config))
    copy_layer(ours, theirs, [ours.around_attention.norm, ours.around_feed.norm])
    x, padding = torch.randn(3, 7, WIDTH), padded(3, 7) == 0
    expected = theirs(x, src_key_padding_mask=padding)
    torch.testing.assert_close(ours(x, padding[:, None, None]), expected)


def test_decoder_layer_is_torchs(config: TransformerConfig) -> None:
    ours = DecoderLayer(config).eval()
    stir(ours)
    theirs = nn.TransformerDecoderLayer(WIDTH, HEADS, config.hidden, **options(config))
    norms = [ours.around_attention.norm, ours.around_cross_attention.norm, ours.around_feed.norm]
    copy_layer(ours, theirs, norms)
    x, memory, padding = torch.randn(3, 5, WIDTH), torch.randn(3, 7, WIDTH), padded(3, 7) == 0
    nothing = torch.empty(3, HEADS, 0, WIDTH // HEADS)
    got, *_ = ours(x, padding[:, None, None], *ours.cross_attention.project(memory), nothing, nothing)
    causal = torch.ones(5, 5).triu(1).bool()
    expected = theirs(x, memory, tgt_mask=causal, memory_key_padding_mask=padding)
    torch.testing.assert_close(got, expected)


# The whole


def test_embedding_is_scaled_shared_and_placed(model: Transformer) -> None:
    """And a norm follows the last layer where layers do not end in one."""
    source, target = tokens(2, 7), tokens(2, 5)
    x = model.embedding.weight[source] * WIDTH**0.5 + sinusoidal_positions(7, 0, WIDTH, CPU)
    for layer in model.encoder:
        x = layer(x, torch.zeros(2, 1, 1, 7, dtype=torch.bool))
    memory = model.read(source)
    if model.config.norm_first:
        x = nn.functional.layer_norm(x, (WIDTH,), model.encoder_norm.weight, model.encoder_norm.bias)
    torch.testing.assert_close(memory, x)
    last: list[Tensor] = []
    model.decoder_norm.register_forward_hook(lambda _module, _inputs, output: last.append(output))
    logits = model(source, target)
    torch.testing.assert_close(logits, last[0] @ model.embedding.weight.T)
    assert [name for name, p in model.named_parameters() if VOCABULARY in p.shape] == ["embedding.weight"]


def test_starts_with_signals_of_steady_size(config: TransformerConfig) -> None:
    transformer = Transformer(TransformerConfig(norm_first=config.norm_first), 1000).eval()
    source, target = torch.randint(1, 1000, (2, 8, 15))
    assert transformer(source, target).std().item() == pytest.approx(1, abs=0.1)
    assert transformer.embedding.weight.std().item() * 256**0.5 == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("parts", [[1] * 6, [4, 1, 1], [2, 3, 1], [6]], ids=str)
def test_step_by_step_gives_the_same_logits(model: Transformer, parts: list[int]) -> None:
    source, target = padded(3, 5), tokens(3, 6)
    memory, past = model.project(model.read(source)), model.nothing(source)
    answers = []
    for part in target.split(parts, dim=1):
        logits, *past = model.write(part, source, *memory, *past)
        answers.append(logits)
    torch.testing.assert_close(torch.cat(answers, dim=1), model(source, target), atol=1e-5, rtol=1e-5)
    assert past[0].shape == past[1].shape == (3, LAYERS, HEADS, 6, WIDTH // HEADS)


def test_padding_a_source_changes_nothing(model: Transformer) -> None:
    source, target = tokens(2, 4), tokens(2, 5)
    longer = torch.cat([source, torch.zeros(2, 3, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(model(longer, target), model(source, target), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(longer.where(longer > 0, 1), target), model(source, target), atol=1e-3)


def test_padding_may_be_any_token(config: TransformerConfig) -> None:
    model = Transformer(config, VOCABULARY, padding=3).eval()
    source, target = torch.tensor([[5, 0, 7]]), tokens(1, 4)
    longer = torch.tensor([[5, 0, 7, 3, 3]])
    torch.testing.assert_close(model(longer, target), model(source, target), atol=1e-5, rtol=1e-5)


def test_later_tokens_change_no_earlier_logits(model: Transformer) -> None:
    source, target = tokens(2, 4), tokens(2, 6)
    other = target.clone()
    other[:, 3:] = target[:, 3:] % (VOCABULARY - 1) + 1
    before, after = model(source, target), model(source, other)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.isclose(before[:, 3], after[:, 3]).any(dim=1).all()


def test_every_place_of_a_source_counts(model: Transformer) -> None:
    source, target = tokens(1, 4), tokens(1, 3)
    logits = model(source, target)
    for place in range(4):
        other = source.clone()
        other[0, place] = source[0, place] % (VOCABULARY - 1) + 1
        assert (model(other, target) - logits).abs().max() > 1e-3


def test_a_source_of_padding_alone_gives_numbers(model: Transformer) -> None:
    source, target = torch.zeros(2, 4, dtype=torch.int64), tokens(2, 3)
    logits = model.train()(source, target)
    cross_entropy(logits.flatten(0, 1), target.flatten()).backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_alignment_shows_where_the_decoder_looks(model: Transformer) -> None:
    source, target = padded(3, 5), tokens(3, 6)
    weights = model.alignment(source, target)
    assert weights.shape == (3, LAYERS, HEADS, 6, 5)
    torch.testing.assert_close(weights.sum(dim=4), torch.ones(3, LAYERS, HEADS, 6))
    assert weights.movedim(4, 1)[source == 0].eq(0).all()
    assert weights.movedim(4, 1)[source > 0].gt(0).all()


# Graphs

Axes = dict[int, torch.export.Dim]
DECODER_INPUTS = ("tokens", "source", "memory_keys", "memory_values", "past_keys", "past_values")


def graph(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], axes: tuple[Axes, ...]) -> Graph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program: Any = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=axes,
            opset_version=20,
            dynamo=True,
            verbose=False,
        )
    buffer = io.BytesIO()
    onnx.save(program.model_proto, buffer)
    onnx.checker.check_model(buffer.getvalue(), full_check=True)
    return Graph(buffer.getvalue())


def decoder_inputs(model: Transformer, batch: int, source: int, new: int, past: int) -> dict[str, Tensor]:
    sources = padded(batch, source)
    kept = torch.randn(2, batch, LAYERS, HEADS, past, WIDTH // HEADS)
    memory = model.project(model.read(sources))
    return dict(zip(DECODER_INPUTS, (tokens(batch, new), sources, *memory, *kept), strict=True))


@pytest.fixture(scope="module")
def exported() -> tuple[Transformer, Graph, Graph]:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = Transformer(TransformerConfig(WIDTH, HEADS, LAYERS, hidden=48), VOCABULARY).eval()
        stir(model)
        batch, source, new = (
            torch.export.Dim(name, min=1, max=1 << 20) for name in ("batch", "source_length", "token_length")
        )
        past = torch.export.Dim("past_length", min=0, max=1 << 20)
        inputs = decoder_inputs(model, batch=2, source=3, new=4, past=5)
        memory: Axes = {0: batch, 3: source}
        encoder = graph(
            Encoder(model),
            {"source": inputs["source"]},
            ["memory_keys", "memory_values"],
            ({0: batch, 1: source},),
        )
        decoder = graph(
            DecoderStep(model),
            inputs,
            ["logits", "keys", "values"],
            ({0: batch, 1: new}, {0: batch, 1: source}, memory, memory, *({0: batch, 3: past},) * 2),
        )
    return model, encoder, decoder


SHAPES = [(1, 1, 1, 0), (1, 1, 1, 1), (1, 6, 3, 0), (3, 6, 1, 0), (3, 6, 1, 1), (2, 1, 4, 2), (5, 9, 7, 11)]


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "source", "new", "past"), SHAPES)
def test_graphs_are_the_module(
    exported: tuple[Transformer, Graph, Graph], batch: int, source: int, new: int, past: int
) -> None:
    model, encoder, decoder = exported
    with torch.no_grad():
        inputs = decoder_inputs(model, batch, source, new, past)
        expected = DecoderStep(model)(*inputs.values())
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    for name, array in encoder({"source": arrays["source"]}).items():
        assert array.shape == arrays[name].shape
        np.testing.assert_allclose(array, arrays[name], atol=1e-5)
    for array, tensor in zip(decoder(arrays).values(), expected, strict=True):
        assert array.shape == tensor.shape
        np.testing.assert_allclose(array, tensor, atol=1e-5)


def test_graphs_decode_from_nothing(exported: tuple[Transformer, Graph, Graph]) -> None:
    """The loop that a server runs, and a source of nothing but padding among the others."""
    model, encoder, decoder = exported
    source, target = padded(3, 5), tokens(3, 6)
    source[2] = 0
    with torch.no_grad():
        expected = model(source, target)
    memory = encoder({"source": source.numpy()})
    past = np.zeros((3, LAYERS, HEADS, 0, WIDTH // HEADS), np.float32)
    keys, values = past, past
    for place in range(6):
        step = {"tokens": target[:, place : place + 1].numpy(), "source": source.numpy(), **memory}
        logits, keys, values = decoder({**step, "past_keys": keys, "past_values": values}).values()
        assert np.isfinite(logits).all()
        np.testing.assert_allclose(logits[:, 0], expected[:, place], atol=1e-5)


class Positions(nn.Module):
    def forward(self, sequence: Tensor) -> Tensor:
        return sinusoidal_positions(sequence.shape[1], 0, 128, sequence.device)


def test_far_positions_are_those_of_torch() -> None:
    sequence = tokens(2, 500)
    axes = ({1: torch.export.Dim("length", min=1, max=1 << 20)},)
    run = graph(Positions(), {"sequence": tokens(2, 7)}, ["positions"], axes)
    positions = run({"sequence": sequence.numpy()})["positions"]
    np.testing.assert_allclose(positions, Positions()(sequence), rtol=0, atol=1e-6)


def test_axes_have_names(exported: tuple[Transformer, Graph, Graph]) -> None:
    _, encoder, decoder = exported
    kept = [LAYERS, HEADS, "past_length", WIDTH // HEADS]
    assert [(name, shape) for name, _, shape in encoder.inputs] == [("source", ["batch", "source_length"])]
    assert [name for name, _, _ in decoder.inputs] == list(DECODER_INPUTS)
    assert decoder.inputs[-1] == ("past_values", "tensor(float)", ["batch", *kept])
    assert decoder.outputs[0] == ("logits", "tensor(float)", ["batch", "token_length", VOCABULARY])


# Copying


@pytest.fixture
def copier() -> Transformer:
    transformer = Transformer(TransformerConfig(WIDTH, HEADS, LAYERS, hidden=48, copying=True), VOCABULARY)
    stir(transformer)
    return transformer.eval()


def test_copying_gives_a_share_to_where_the_last_layer_looks(copier: Transformer) -> None:
    source, target = padded(3, 5), tokens(3, 4)
    source[0, 1] = source[0, 0]  # a token that comes twice has the shares of both places
    shares: list[Tensor] = []
    assert copier.copying is not None
    copier.copying.register_forward_hook(lambda _module, _inputs, output: shares.append(output.sigmoid()))
    probabilities = copier(source, target).exp()
    looked = copier.alignment(source, target)[:, -1].mean(dim=1)  # [B, T, S]
    copier.copying = None
    expected = (1 - shares[0]) * copier(source, target).softmax(dim=2)
    for row, step, place in itertools.product(range(3), range(4), range(5)):
        expected[row, step, source[row, place]] += shares[0][row, step, 0] * looked[row, step, place]
    torch.testing.assert_close(probabilities, expected)
    torch.testing.assert_close(probabilities.sum(dim=2), torch.ones(3, 4))


def test_copying_gives_probabilities_where_the_layers_are_in_half_precision(copier: Transformer) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        logits = copier(padded(3, 5), tokens(3, 4))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.logsumexp(dim=2), torch.zeros(3, 4), atol=2e-3, rtol=0)


def test_copying_step_by_step(copier: Transformer) -> None:
    source, target = padded(2, 5), tokens(2, 4)
    memory, past = copier.project(copier.read(source)), copier.nothing(source)
    answers = []
    for token in target.split(1, dim=1):
        logits, *past = copier.write(token, source, *memory, *past)
        answers.append(logits)
    torch.testing.assert_close(torch.cat(answers, dim=1), copier(source, target), atol=1e-5, rtol=1e-5)


def test_what_cannot_be_written_is_improbable_and_no_infinity(copier: Transformer) -> None:
    assert copier.copying is not None
    with torch.no_grad():
        copier.copying.bias.fill_(200)  # everything is copied
    logits = copier(torch.full((1, 3), 5), tokens(1, 2))
    assert logits.isfinite().all()
    assert (logits.argmax(dim=2) == 5).all()
