"""One row an architecture: what it is made of, what it takes and returns, how large it is."""

import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import zoo.models
from training import listing, recipes
from zoo.models.alexnet import SMALL, AlexNet, AlexNetConfig
from zoo.models.efficientnet_lite0 import EfficientNetLite0, EfficientNetLite0Config
from zoo.models.gan import GAN, GANConfig
from zoo.models.gru import GRU, GRUCell, GRUConfig
from zoo.models.lenet5 import LeNet5, LeNet5Config
from zoo.models.linear_regression import LinearRegression, LinearRegressionConfig
from zoo.models.llama import Llama, LlamaConfig
from zoo.models.lstm import LSTM, LSTMCell, LSTMConfig
from zoo.models.mlp import ACTIVATIONS, MLP, MLPConfig
from zoo.models.perceptron import Perceptron, PerceptronConfig
from zoo.models.rnn import RNN, RNNCell, RNNConfig
from zoo.models.transformer import Transformer, TransformerConfig
from zoo.models.vgg16 import VGG16, VGG16Config


@dataclass(frozen=True)
class Row:
    config: type
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    label: Tensor | None = None
    """Second input of a model that is told the class of each of its three inputs."""
    vocabulary: int | None = None
    """Of a model whose inputs are tokens, all of the given shape."""
    texts: int = 2
    """Those inputs."""

    def inputs(self, rows: int = 3) -> tuple[Tensor, ...]:
        if self.vocabulary is not None:
            return torch.randint(1, self.vocabulary, (self.texts, rows, *self.input_shape[1:])).unbind()
        first = torch.rand(rows, *self.input_shape[1:])
        return (first,) if self.label is None else (first, self.label[:rows])


MODELS = {
    "linear-regression": Row(
        LinearRegressionConfig, lambda: LinearRegression(LinearRegressionConfig(), 10), (3, 10), (3,), 11
    ),
    "perceptron": Row(PerceptronConfig, lambda: Perceptron(PerceptronConfig(), 30), (3, 30), (3,), 31),
    "mlp": Row(MLPConfig, lambda: MLP(MLPConfig(), 64, 10), (3, 1, 8, 8), (3, 10), 9_610),
    "alexnet": Row(AlexNetConfig, lambda: AlexNet(SMALL, 1, 28, 10), (3, 1, 28, 28), (3, 10), 862_922),
    "vgg16": Row(
        VGG16Config,
        lambda: VGG16(VGG16Config(width=4, hidden=8), 1, 28, 10),
        (3, 1, 28, 28),
        (3, 10),
        58_182,
    ),
    "efficientnet-lite0": Row(
        EfficientNetLite0Config,
        lambda: EfficientNetLite0(EfficientNetLite0Config(size=32), 3, 1000),
        (3, 3, 32, 32),
        (3, 1000),
        4_652_008,
    ),
    "lenet5": Row(LeNet5Config, lambda: LeNet5(LeNet5Config(), 1, 28, 10), (3, 1, 28, 28), (3, 10), 61_706),
    "gan": Row(
        GANConfig, lambda: GAN(GANConfig(width=8), 1, 28, 10), (3, 64), (3,), 71_098, torch.tensor([0, 3, 9])
    ),
    "transformer": Row(
        TransformerConfig,
        lambda: Transformer(TransformerConfig(width=8, heads=2, layers=1, hidden=16), 11),
        (3, 5),
        (3, 5, 11),
        1_624,
        vocabulary=11,
    ),
    "llama": Row(
        LlamaConfig,
        lambda: Llama(LlamaConfig(layers=1, width=8, heads=2, key_value_heads=1), 11),
        (3, 5),
        (3, 5, 11),
        1_072,
        vocabulary=11,
        texts=1,
    ),
    "rnn": Row(RNNConfig, lambda: RNN(RNNConfig(width=8), 4), (3, 7, 4), (3, 7, 8), 112),
    "lstm": Row(LSTMConfig, lambda: LSTM(LSTMConfig(width=8), 4), (3, 7, 4), (3, 7, 8), 448),
    "gru": Row(GRUConfig, lambda: GRU(GRUConfig(width=8), 4), (3, 7, 4), (3, 7, 8), 336),
}
FILES = sorted(module.name for module in pkgutil.iter_modules(zoo.models.__path__))


@pytest.fixture(params=MODELS)
def row(request: pytest.FixtureRequest) -> Row:
    return MODELS[request.param]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_table_is_complete() -> None:
    assert sorted(name.replace("-", "_") for name in MODELS) == FILES


def test_every_architecture_has_a_recipe_file() -> None:
    assert recipes.names() == sorted({*MODELS, "smollm2"})  # a Llama that others have trained
    assert all(recipes.recipe_for(name).architecture == name for name in MODELS)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_first_recipe_s_size_is_stated(name: str) -> None:
    recipe = next(iter(recipes.recipes(name).values()))
    model = recipe.build_model(recipe.fit_task(recipe.load_data()))
    assert sum(parameter.numel() for parameter in model.parameters()) == recipe.parameters


def test_a_listing_fetches_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither weights nor data, whatever there is to list."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    before = set(home.rglob("*"))
    assert len(listing.architectures()) == len(recipes.names())
    assert set(home.rglob("*")) - before <= {home / "mlflow.lock"}


def test_shapes(row: Row) -> None:
    model = row.build().eval()
    assert model(*row.inputs()).shape == row.output_shape
    assert model(*row.inputs(1)).shape == (1, *row.output_shape[1:])


def test_parameters(row: Row) -> None:
    assert count(row.build()) == row.parameters


def test_every_parameter_has_a_gradient(row: Row) -> None:
    model = row.build()
    model(*row.inputs()).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_config_is_a_frozen_dataclass_beside_the_model(row: Row) -> None:
    assert is_dataclass(row.config)
    assert row.config.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert row.config.__module__ == type(row.build()).__module__
    assert row.config.__name__ == type(row.build()).__name__ + "Config"


@pytest.mark.parametrize("name", FILES)
def test_source_is_cited(name: str) -> None:
    text = importlib.import_module(f"zoo.models.{name}").__doc__ or ""
    source = text.partition("Source:")[2]
    year = re.search(r"\((\d{4})\)", source)
    assert year, "the docstring names no source with its year"
    assert re.search(r'"[^"]{10,}"', source), "the docstring names no title"
    assert int(year[1]) < 1900 or re.search(r"doi:10\.|arXiv:", source), "no DOI or arXiv number"
    assert "Shape legend:" in text


# LeNet-5


@pytest.mark.parametrize(("activation", "layer"), [("tanh", nn.Tanh), ("relu", nn.ReLU)])
@pytest.mark.parametrize(("pooling", "pool"), [("average", nn.AvgPool2d), ("max", nn.MaxPool2d)])
def test_lenet5_variants(activation: str, layer: type, pooling: str, pool: type) -> None:
    model = LeNet5(LeNet5Config(activation, pooling), 1, 28, 10)  # type: ignore[arg-type]
    kinds = [type(m) for m in model.modules()]
    assert kinds.count(layer) == 4
    assert kinds.count(pool) == 2
    assert count(model) == 61_706


def test_lenet5_defaults_are_the_paper() -> None:
    assert LeNet5Config() == LeNet5Config(activation="tanh", pooling="average")


@pytest.mark.parametrize("size", [28, 30, 32])
def test_lenet5_takes_what_fits_its_retina(size: int) -> None:
    assert LeNet5(LeNet5Config(), 3, size, 7)(torch.rand(2, 3, size, size)).shape == (2, 7)


@pytest.mark.parametrize("size", [8, 27, 29, 34])
def test_lenet5_refuses_other_sizes(size: int) -> None:
    with pytest.raises(ValueError, match="28, 30 or 32 pixels"):
        LeNet5(LeNet5Config(), 1, size, 10)


# MLP


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (5,), (7, 3, 2)])
def test_mlp_sizes(activation: str, hidden: tuple[int, ...]) -> None:
    model = MLP(MLPConfig(hidden, activation), 4, 2)  # type: ignore[arg-type]
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert [m.in_features for m in linear] == [4, *hidden]
    assert [m.out_features for m in linear] == [*hidden, 2]
    function = type(ACTIVATIONS[activation]())
    assert sum(isinstance(m, function) for m in model.modules()) == len(hidden)


def test_mlp_computes_what_the_paper_says() -> None:
    model = MLP(MLPConfig((3,), "sigmoid"), 2, 1)
    first, last = (m for m in model.modules() if isinstance(m, nn.Linear))
    x = torch.rand(5, 2)
    hidden = 1 / (1 + torch.exp(-(x @ first.weight.T + first.bias)))
    torch.testing.assert_close(model(x), hidden @ last.weight.T + last.bias)


def test_mlp_drops_in_training_only() -> None:
    model = MLP(MLPConfig((64,), dropout=0.5), 4, 2)
    x = torch.rand(3, 4)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_starts_with_signals_of_steady_size(activation: str) -> None:
    torch.manual_seed(0)
    model = MLP(MLPConfig((256,) * 6, activation), 256, 256)  # type: ignore[arg-type]
    deviation = model(torch.randn(64, 256)).std()
    assert deviation > (0.05 if activation != "sigmoid" else 0.001)


def test_mlp_without_hidden_layers_is_linear() -> None:
    model = MLP(MLPConfig(()), 3, 2)
    a, b = torch.rand(3), torch.rand(3)
    torch.testing.assert_close(model((a + b)[None] / 2), (model(a[None]) + model(b[None])) / 2)


# AlexNet


def test_alexnet_is_the_paper_s() -> None:
    with torch.device("meta"):
        model = AlexNet(AlexNetConfig(), 3, 224, 1000)
        maps = [torch.empty(1, 3, 224, 224)]
        for layer in model.features:
            maps.append(layer(maps[-1]))
    assert count(model) == 60_965_224
    convolved = [m.shape[1:] for m, layer in zip(maps[1:], model.features, strict=True) if has_weights(layer)]
    assert convolved == [(96, 55, 55), (256, 27, 27), (384, 13, 13), (384, 13, 13), (256, 13, 13)]
    assert maps[-1].shape == (1, 256, 6, 6)
    kernels = [tuple(layer.weight.shape) for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    # The paper's own: kernels of its second, fourth and fifth layer see the maps of one GPU only.
    assert kernels == [
        (96, 3, 11, 11),
        (256, 48, 5, 5),
        (384, 256, 3, 3),
        (384, 192, 3, 3),
        (256, 192, 3, 3),
    ]
    assert [layer.out_features for layer in model.classifier if has_weights(layer)] == [4096, 4096, 1000]


@pytest.mark.parametrize("size", [28, 32, 40])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_alexnet_takes_small_images(size: int, channels: int) -> None:
    assert AlexNet(SMALL, channels, size, 7).eval()(torch.rand(2, channels, size, size)).shape == (2, 7)


def test_alexnet_refuses_what_its_poolings_leave_nothing_of() -> None:
    with pytest.raises(ValueError, match="32 pixels are too small"):
        AlexNet(AlexNetConfig(), 3, 32, 10)


# VGG


@pytest.mark.parametrize(
    ("configuration", "layers", "parameters"),
    [("A", 11, 132_863_336), ("D", 16, 138_357_544), ("E", 19, 143_667_240)],
)
def test_vgg_is_the_paper_s(configuration: str, layers: int, parameters: int) -> None:
    with torch.device("meta"):
        plain, normalised = (
            VGG16(VGG16Config(configuration, norm), 3, 224, 1000)  # type: ignore[arg-type]
            for norm in (False, True)
        )
        assert plain.features(torch.empty(1, 3, 224, 224)).shape == (1, 512, 7, 7)
    assert count(plain) == parameters
    assert sum(has_weights(m) for m in plain.modules()) == layers
    norms = [m for m in normalised.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == layers - 3
    assert count(normalised) == parameters + sum(2 * m.num_features for m in norms)


@pytest.mark.parametrize("size", [28, 32, 33, 64])
@pytest.mark.parametrize("hidden", [0, 12])
def test_vgg_sizes_its_classifier_to_the_image(size: int, hidden: int) -> None:
    model = VGG16(VGG16Config(width=4, hidden=hidden), 1, size, 7).eval()
    assert model(torch.rand(2, 1, size, size)).shape == (2, 7)


def test_vgg_starts_by_passing_its_input_on() -> None:
    model = VGG16(VGG16Config(batch_norm=True, width=8, initial="dirac"), 1, 32, 10)
    second = model.features[3]  # as many kernels as maps: each passes one map on
    image = torch.rand(2, 8, 9, 9)
    torch.testing.assert_close(second(image), image)


def has_weights(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.Linear)


# EfficientNet-Lite0


@pytest.mark.parametrize("side", [28, 32, 33, 40])
def test_efficientnet_lite0_resizes_images_itself(side: int) -> None:
    model = EfficientNetLite0(EfficientNetLite0Config(size=33), 3, 7).eval()
    image = torch.rand(2, 3, side, side)
    resized = torch.nn.functional.interpolate(image, (33, 33), mode="bilinear", align_corners=False)
    assert model.features(resized).shape == (2, 1280, 2, 2)  # 33 / 32, rounded up
    torch.testing.assert_close(model(image), model(resized))


def test_efficientnet_lite0_takes_grey_as_colour() -> None:
    model = EfficientNetLite0(EfficientNetLite0Config(size=32), 1, 7).eval()
    grey = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(model(grey), model(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(("channels", "size"), [(2, 32), (4, 32), (3, 0)])
def test_efficientnet_lite0_refuses(channels: int, size: int) -> None:
    with pytest.raises(ValueError, match=r"1 or 3 channels, not|at least 1, not 0"):
        EfficientNetLite0(EfficientNetLite0Config(size), channels, 10)


# Recurrent networks


@pytest.mark.parametrize(
    ("network", "cell"),
    [
        (RNN(RNNConfig(width=8), 4), RNNCell(4, 8)),
        (LSTM(LSTMConfig(width=8), 4), LSTMCell(4, 8)),
        (GRU(GRUConfig(width=8), 4), GRUCell(4, 8)),
    ],
    ids=["rnn", "lstm", "gru"],
)
def test_a_fused_layer_is_its_cell_step_by_step(network: RNN | LSTM | GRU, cell: nn.Module) -> None:
    names = ("input.weight", "hidden.weight", "input.bias", "hidden.bias")
    cell.load_state_dict(dict(zip(names, network.fused.parameters(), strict=True)))
    sequence = torch.randn(3, 7, 4)
    outputs, after = network.run(sequence)
    state = network.initial(sequence)
    for step in range(7):
        stepped = cell(sequence[:, step], *(part[0] for part in state))
        state = tuple(part[None] for part in (stepped if isinstance(stepped, tuple) else (stepped,)))
        torch.testing.assert_close(state[0][0], outputs[:, step])
    torch.testing.assert_close(after, state)


@pytest.mark.parametrize(
    "network", [RNN(RNNConfig(8, 2), 4), LSTM(LSTMConfig(8, 2), 4), GRU(GRUConfig(8, 2), 4)]
)
def test_a_sequence_may_be_read_in_parts(network: RNN | LSTM | GRU) -> None:
    sequence = torch.randn(3, 7, 4)
    whole, after = network.run(sequence)
    first, between = network.run(sequence[:, :3])
    second, ended = network.run(sequence[:, 3:], between)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(ended, after)
