"""torch -> ONNX: names, types, free batch axis, and a parity check that nothing gets past."""

import copy
from dataclasses import dataclass, fields, replace

import numpy as np
import onnx
import pytest
import torch
from lightning_fabric import Fabric
from quick_training import QUICK, TEXT, Key, fitted
from torch import Tensor, nn

from training import pipeline, promotion
from training.export import MOST_TOLERANCE, PARITY_BATCHES, PARITY_TOLERANCE, Parity, examples, export, parity
from training.objectives.base import Objective, exportable
from training.objectives.classification import Classification
from training.pipeline import Prepared
from training.recipes import recipe_for
from training.recipes.mlp import MLPRecipe
from zoo.errors import ExportError, PromotionRefused
from zoo.graph import Graph
from zoo.layers.forecaster import Forecaster
from zoo.models.gru import GRU, GRUConfig
from zoo.models.lstm import LSTM, LSTMConfig
from zoo.models.rnn import RNN, RNNConfig
from zoo.tasks import TASKS, Arrays, Task
from zoo.tasks.base import Axis
from zoo.tasks.forecasting import Forecasting
from zoo.tasks.tabular_classification import TabularClassification

TWO_GRAPHS = {"sequence_to_sequence"}  # see test_text_pairs.py
KINDS: dict[str, list[Key]] = {  # one recipe for each architecture and kind
    "tabular_regression": [("linear-regression", "diabetes"), ("mlp", "diabetes")],
    "tabular_classification": [("perceptron", "iris-setosa"), ("mlp", "xor")],
    "image_classification": [
        ("mlp", "digits"),
        ("lenet5", "mnist-5k"),
        ("alexnet", "mnist-5k"),
        ("vgg16", "mnist-5k"),
        ("efficientnet-lite0", "mnist-5k"),
    ],
    "image_generation": [("gan", "mnist-5k")],
    "forecasting": [("rnn", "sunspots"), ("lstm", "sunspots"), ("gru", "sunspots")],
    "language_modelling": [("rnn", TEXT), ("lstm", TEXT), ("gru", "python-topics")],
}
FORMATS = {  # ONNX type and shape behind the batch axis
    "tabular_regression": {"features": ("tensor(float)", 1), "value": ("tensor(float)", 0)},
    "tabular_classification": {"features": ("tensor(float)", 1), "probabilities": ("tensor(float)", 1)},
    "image_classification": {"image": ("tensor(uint8)", 3), "probabilities": ("tensor(float)", 1)},
    "image_generation": {
        "latent": ("tensor(float)", 1),
        "class": ("tensor(int64)", 0),
        "image": ("tensor(float)", 3),
    },
    "forecasting": {"history": ("tensor(float)", 2), "forecast": ("tensor(float)", 2)},
    "language_modelling": {
        "tokens": ("tensor(int64)", 1),
        "state": ("tensor(float)", 3),
        "logits": ("tensor(float)", 2),
        "next_state": ("tensor(float)", 3),
    },
}


QUICKEST = {("linear-regression", "diabetes"), ("mlp", "xor"), ("mlp", "digits"), ("rnn", "sunspots")}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(key, id="-".join(key), marks=() if key in QUICKEST else pytest.mark.slow)
        for keys in KINDS.values()
        for key in keys
    ],
)
def exported(request: pytest.FixtureRequest) -> tuple[Prepared, nn.Module, bytes]:
    recipe = replace(QUICK[request.param], epochs=1, log_every=1)
    prepared, _ = fitted(recipe)
    module = prepared.objective.export_module()
    return prepared, module, export(module, prepared.task)["model"]


def test_tables_are_complete() -> None:
    assert set(KINDS) == set(FORMATS) == set(TASKS) - TWO_GRAPHS
    covered = {(name, kind) for kind, keys in KINDS.items() for name, _ in keys}
    kinds = {(name, kind) for name, _ in QUICK for kind in recipe_for(name).kinds}
    built = {("llama", "language_modelling")}  # node by node: tests/training/test_llama_graph.py
    assert covered == {(name, kind) for name, kind in kinds - built if kind not in TWO_GRAPHS}


def test_names_types_and_axes(exported: tuple[Prepared, nn.Module, bytes]) -> None:
    prepared, _, graph = exported
    run = Graph(graph)
    expected = FORMATS[prepared.kind]
    (signature,) = prepared.task.signatures()
    assert tuple(name for name, _, _ in run.inputs) == signature.inputs
    assert tuple(name for name, _, _ in run.outputs) == signature.outputs
    for name, kind, shape in run.inputs + run.outputs:
        assert (kind, len(shape) - 1) == expected[name]
        assert isinstance(shape[0], str), "the batch axis is fixed"
        varying = prepared.task.varying_axes().get(name)
        free = {0} if varying is None else {0, varying.place}
        if name == "logits":  # of each of the tokens
            free = {0, 1}
        assert {i for i, size in enumerate(shape) if not isinstance(size, int)} == free
    onnx.checker.check_model(graph, full_check=True)


def test_any_batch_gives_the_modules_answer(exported: tuple[Prepared, nn.Module, bytes]) -> None:
    prepared, module, graph = exported
    run, task = Graph(graph), prepared.task
    agreement = parity(module, run, task, prepared.data.test)
    assert agreement.holds
    exact = copy.deepcopy(module).double()
    for size in (1, 3, 129):
        inputs = task.examples_for(task.signatures()[0], size)
        tensors = [torch.from_numpy(array) for array in inputs.values()]
        with torch.no_grad():
            answer = exact(*(t.double() if t.is_floating_point() else t for t in tensors))
        expected = (answer[0] if isinstance(answer, tuple) else answer).numpy()
        got = run(inputs)[task.outputs[0]]
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=agreement.tolerance)


@pytest.mark.slow
def test_any_length_of_segments_gives_the_modules_answer() -> None:
    """Two layers, several variables, several steps read at once."""
    for network in (RNN(RNNConfig(8, 2), 3), LSTM(LSTMConfig(8, 2), 3), GRU(GRUConfig(8, 2), 3)):
        module = Forecaster(network, segment=3, horizon=5, relative=True, dropout=0.0).eval()
        fields = {"variables": ("a", "b"), "unit": "", "every": 1, "period": "", "season": 1, "window": 12}
        scale = {"mean": (0, 0), "std": (1, 1), "naive_error": (1, 1)}
        task = Forecasting(horizon=5, multiple=3, **fields, **scale)  # type: ignore[arg-type]
        run = Graph(export(module, task)["model"])
        assert parity(module, run, task, {}).holds
        for shape in ((1, 3, 2), (4, 99, 2)):
            history = torch.randn(shape)
            with torch.no_grad():
                expected = module(history)
            np.testing.assert_allclose(run({"history": history.numpy()})["forecast"], expected, atol=1e-5)


def test_parity_sees_other_lengths(exported: tuple[Prepared, nn.Module, bytes]) -> None:
    prepared, module, graph = exported
    for name, axis in prepared.task.varying_axes().items():
        run, usual = Graph(graph), prepared.data.test[name].shape[axis.place]

        def only_the_usual_length(inputs: Arrays, name: str = name, axis: Axis = axis) -> Arrays:
            wrong = inputs[name].shape[axis.place] != usual  # noqa: B023
            return {key: array + wrong for key, array in run(inputs).items()}  # noqa: B023

        assert not parity(module, only_the_usual_length, prepared.task, prepared.data.test).holds


def test_a_mirrored_graph_answers_an_image_and_its_mirror_image_alike() -> None:
    prepared = pipeline.prepare(replace(QUICK["lenet5", "mnist-5k"], mirrored=True))  # type: ignore[call-arg]
    image = prepared.data.test["image"][:5]
    mirror = image[:, :, ::-1].copy()
    run = Graph(export(prepared.objective.export_module(), prepared.task)["model"])
    answer = run({"image": image})["probabilities"]
    np.testing.assert_allclose(run({"image": mirror})["probabilities"], answer, atol=1e-6)
    with torch.no_grad():
        sides = [prepared.objective.network.eval()(torch.from_numpy(side)) for side in (image, mirror)]
    assert not torch.allclose(*sides)
    np.testing.assert_allclose(answer, torch.stack(sides).softmax(dim=2).mean(dim=0), atol=1e-6)


def test_answers_are_readable(exported: tuple[Prepared, nn.Module, bytes]) -> None:
    """Raw inputs in; probabilities, values in the target's unit, or intensities out."""
    prepared, _, graph = exported
    test = prepared.data.test
    outputs = Graph(graph)(examples(prepared.task, prepared.task.signatures()[0], test, len(test["target"])))
    if prepared.kind == "tabular_regression":
        target = prepared.data.train["target"]
        assert abs(outputs["value"].mean() - target.mean()) < target.std()
    elif prepared.kind == "forecasting":
        target = prepared.data.train["target"]
        assert abs(outputs["forecast"].mean() - target.mean()) < target.std()
    elif prepared.kind == "language_modelling":
        likeliest = outputs["logits"].argmax(axis=2)
        assert len(np.unique(likeliest)) > 1
    elif prepared.kind == "image_generation":
        assert 0 <= outputs["image"].min() < outputs["image"].max() <= 1
    else:
        probabilities = outputs["probabilities"]
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
        assert probabilities.min() >= 0


def test_at_least_three_batch_sizes_are_compared() -> None:
    assert len(set(PARITY_BATCHES)) >= 3
    assert 1 in PARITY_BATCHES


# A run that disagrees

TASK = TabularClassification(
    feature_names=("a", "b"), labels=("x", "y"), feature_mean=(0.0, 0.0), feature_std=(1.0, 1.0)
)
EXAMPLES: Arrays = {"features": np.random.default_rng(0).normal(size=(5, 2))}
MODULE = nn.Softmax(dim=1)


def softmax(inputs: Arrays) -> Arrays:
    return {"probabilities": MODULE(torch.from_numpy(inputs["features"])).numpy()}


def test_parity_of_the_same_function_is_its_rounding() -> None:
    agreement = parity(MODULE, softmax, TASK, EXAMPLES)
    assert 0 < agreement.deviation == agreement.rounding < 1e-6
    assert agreement.tolerance == PARITY_TOLERANCE
    assert agreement.holds


@pytest.mark.parametrize(
    ("rounding", "tolerance"),
    [(0.0, PARITY_TOLERANCE), (2e-6, PARITY_TOLERANCE), (1e-5, 4e-5), (1.0, MOST_TOLERANCE)],
)
def test_a_graph_may_round_a_few_times_as_much_as_torch(rounding: float, tolerance: float) -> None:
    assert Parity(tolerance, rounding).holds
    assert not Parity(tolerance * 1.01, rounding).holds


@pytest.mark.parametrize("batch", PARITY_BATCHES)
@pytest.mark.parametrize("wrong", [1e-4, float("nan"), float("inf")])
def test_one_wrong_number_in_one_batch_is_seen(batch: int, wrong: float) -> None:
    def run(inputs: Arrays) -> Arrays:
        outputs = softmax(inputs)
        if len(inputs["features"]) == batch:
            outputs["probabilities"][-1, -1] += wrong
        return outputs

    assert not parity(MODULE, run, TASK, EXAMPLES).holds


def test_another_shape_is_an_error() -> None:
    with pytest.raises(ExportError, match=r"probabilities has shape \(1, 1\) at batch 1, not \(1, 2\)"):
        parity(
            MODULE, lambda inputs: {"probabilities": softmax(inputs)["probabilities"][:, :1]}, TASK, EXAMPLES
        )


# A module that becomes another graph


class OtherWhenExported(nn.Module):
    """Probabilities as they are, but for the exporter."""

    def forward(self, probabilities: Tensor) -> Tensor:
        return probabilities.sqrt() if torch.compiler.is_exporting() else probabilities


class BrokenExport(Classification):
    def export_module(self) -> nn.Module:
        return exportable(self.network, nn.Softmax(dim=1), OtherWhenExported())


@dataclass(frozen=True, kw_only=True)
class BrokenRecipe(MLPRecipe):
    def build_objective(self, model: nn.Module, task: Task, fabric: Fabric, steps: int) -> Objective:
        assert isinstance(task, TabularClassification)
        return BrokenExport(model, task, self.optimizer, fabric, steps)


@pytest.mark.slow
def test_a_graph_that_disagrees_is_registered_and_never_promoted(home: object) -> None:
    sound = recipe_for("mlp", "xor")
    same = {field.name: getattr(sound, field.name) for field in fields(sound)}
    result = pipeline.train(BrokenRecipe(**same | {"epochs": 30, "bar": None}))
    assert result is not None
    assert not result.champion
    assert "the graph deviates from torch by" in result.reason
    assert promotion.record_of(result.model, result.version).gate == "failed"
    with pytest.raises(PromotionRefused, match="failed its gate: the graph deviates"):
        promotion.promote(result.model, result.version)
    (row,) = promotion.leaderboard()
    assert not row.champion


def test_exporting_leaves_the_objective_in_its_precision() -> None:
    prepared, _ = fitted(replace(recipe_for("linear-regression"), epochs=1))
    assert prepared.objective.export_module()(torch.zeros(2, 10)).dtype == torch.float32
    buffers = [*prepared.objective.network.buffers(), *prepared.objective.unscaling.buffers()]  # type: ignore[attr-defined]
    assert {tensor.dtype for tensor in buffers} == {torch.float64}
