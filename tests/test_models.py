"""One row an architecture: what it is made of, what it takes and returns, how large it is."""

import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass

import pytest
import torch
from torch import nn

import zoo.models
from training import recipes
from zoo.models.lenet5 import LeNet5, LeNet5Config
from zoo.models.linear_regression import LinearRegression, LinearRegressionConfig
from zoo.models.mlp import ACTIVATIONS, MLP, MLPConfig
from zoo.models.perceptron import Perceptron, PerceptronConfig


@dataclass(frozen=True)
class Row:
    config: type
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int


MODELS = {
    "linear-regression": Row(
        LinearRegressionConfig, lambda: LinearRegression(LinearRegressionConfig(), 10), (3, 10), (3,), 11
    ),
    "perceptron": Row(PerceptronConfig, lambda: Perceptron(PerceptronConfig(), 30), (3, 30), (3,), 31),
    "mlp": Row(MLPConfig, lambda: MLP(MLPConfig(), 64, 10), (3, 1, 8, 8), (3, 10), 9_610),
    "lenet5": Row(LeNet5Config, lambda: LeNet5(LeNet5Config(), 1, 28, 10), (3, 1, 28, 28), (3, 10), 61_706),
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
    assert recipes.names() == sorted(MODELS)
    assert all(recipes.recipe_for(name).architecture == name for name in MODELS)


def test_shapes(row: Row) -> None:
    model = row.build().eval()
    assert model(torch.rand(row.input_shape)).shape == row.output_shape
    assert model(torch.rand(1, *row.input_shape[1:])).shape == (1, *row.output_shape[1:])


def test_parameters(row: Row) -> None:
    assert count(row.build()) == row.parameters


def test_every_parameter_has_a_gradient(row: Row) -> None:
    model = row.build()
    model(torch.rand(row.input_shape)).square().sum().backward()
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
