"""What MLflow holds of a run, looked at with MLflow's own client."""

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mlflow
import mlflow.onnx
import numpy as np
import onnxruntime
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from quick_training import QUICK, TEXT, Key, QuickZoo, raw

from training import promotion, tracking
from training.loop import Points
from training.pipeline import train
from training.recipe import Recipe, flatten
from training.recipes import recipe_for
from training.store import connect, experiment_id
from zoo import bundle
from zoo.graph import Graph

KEYS = list(QUICK)
ONE_GRAPH = [key for key in KEYS if key[0] != "transformer"]  # see test_text_pairs.py
FIGURES = {  # by architecture and kind, beyond the learning curves
    ("linear-regression", "tabular_regression"): {"predictions", "first_weights", "assumptions"},
    ("perceptron", "tabular_classification"): {"confusion", "first_weights"},
    ("mlp", "tabular_regression"): {"predictions"},
    ("mlp", "tabular_classification"): {"confusion"},
    ("mlp", "image_classification"): {"confusion", "worst_mistakes", "first_weights"},
    ("lenet5", "image_classification"): {"confusion", "worst_mistakes", "first_weights"},
    ("alexnet", "image_classification"): {"confusion", "worst_mistakes", "first_weights"},
    ("vgg16", "image_classification"): {"confusion", "worst_mistakes", "first_weights"},
    ("efficientnet-lite0", "image_classification"): {"confusion", "worst_mistakes", "first_weights"},
    ("gan", "image_generation"): {
        "samples_epoch_001",
        "samples_epoch_002",
        "samples",
        "interpolation",
        "recognised",
    },
    **{(name, "forecasting"): {"forecast"} for name in ("rnn", "lstm", "gru")},
    ("transformer", "sequence_to_sequence"): {"attention"},
    **{(name, "language_modelling"): set() for name in ("rnn", "lstm", "gru", "llama")},
}


class Logged:
    """A finished run, its registered version and its recipe."""

    def __init__(self, zoo: QuickZoo, key: Key) -> None:
        self.client = connect()
        self.recipe: Recipe = QUICK[key]
        self.result = zoo.results[key]
        self.run: Run = self.client.get_run(self.result.run_id)
        self.version = self.client.get_model_version(self.result.model, self.result.version)
        (output,) = self.run.outputs.model_outputs
        self.model = self.client.get_logged_model(output.model_id)
        self.bundle = bundle.load(promotion.download(self.result.model, self.result.version))
        self.kind = self.bundle.manifest.kind

    def history(self, name: str) -> list[tuple[int, float]]:
        points = self.client.get_metric_history(self.result.run_id, name)
        return sorted((point.step, point.value) for point in points)


@pytest.fixture(params=KEYS, ids="-".join)
def logged(request: pytest.FixtureRequest, zoo: QuickZoo) -> Logged:
    return Logged(zoo, request.param)


def leaves(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def test_every_recipe_field_is_a_parameter(logged: Logged) -> None:
    expected = {name: str(value) for name, value in leaves(asdict(logged.recipe)).items()}
    params = logged.run.data.params
    assert expected.items() <= params.items()
    others = {"architecture", "parameters", "data.digest", "data.source"}
    assert set(params) - set(expected) == others
    assert params["architecture"] == logged.recipe.architecture
    assert params["data.digest"] == raw(logged.recipe.dataset).digest


def test_nested_fields_have_dotted_names() -> None:
    flat = flatten(QUICK["mlp", "digits"])
    assert flat["optimizer.name"] == "adamw"
    assert flat["model.hidden"] == (256, 128)
    assert "optimizer" not in flat


def test_run_is_finished_in_its_data_sets_experiment(logged: Logged) -> None:
    assert logged.run.info.status == "FINISHED"
    experiment = logged.client.get_experiment(logged.run.info.experiment_id)
    assert experiment.name == logged.recipe.dataset_name
    assert logged.run.data.tags["version"] == logged.result.version
    assert logged.run.data.tags["gate"] in ("passed", "failed")
    assert not tracking.scratch(logged.result.run_id).exists()


def test_points_by_epoch_and_by_step(logged: Logged) -> None:
    recipe = logged.recipe
    epochs = [step for step, _ in logged.history("train_loss")]
    last = epochs[-1]
    assert last == recipe.epochs or recipe.patience is not None
    assert epochs == [e for e in range(1, last + 1) if e % recipe.log_every == 0 or e == recipe.epochs]
    if recipe.validation_share:
        assert [step for step, _ in logged.history("validation_loss")] == epochs
    steps = [step for step, _ in logged.history("batch_loss")]
    assert steps == [recipe.log_steps * (i + 1) for i in range(len(steps))]


def test_metrics_are_linked_to_model_and_data(logged: Logged) -> None:
    metrics = {metric.key: metric for metric in logged.model.metrics}
    task = logged.bundle.task
    for name, value in logged.result.metrics.items():
        assert metrics[f"test_{name}"].value == pytest.approx(value)
        assert logged.run.data.metrics[f"test_{name}"] == pytest.approx(value)
    primary = metrics[f"test_{task.primary_metric}"]
    digest = raw(logged.recipe.dataset).digest
    assert (primary.dataset_name, primary.dataset_digest) == (logged.recipe.dataset_name, digest[:36])
    assert primary.model_id == logged.model.model_id
    assert primary.run_id == logged.result.run_id
    costs = {
        "train_seconds",
        "tracking_seconds",
        "latency_ms",
        "onnx_bytes",
        "export_deviation",
        "export_tolerance",
    }
    assert costs <= set(metrics)


def test_best_model_is_found_by_its_metric(zoo: QuickZoo) -> None:
    found = mlflow.search_logged_models(
        experiment_ids=[experiment_id(connect(), "diabetes")],
        filter_string="metrics.test_mse < 1e9",
        order_by=[{"field_name": "metrics.test_mse", "ascending": True, "dataset_name": "diabetes"}],
        output_format="list",
    )
    results = [zoo.results[name, "diabetes"] for name in ("linear-regression", "mlp")]
    best = min(results, key=lambda result: result.value)
    assert found[0].source_run_id == best.run_id


def test_test_metric_is_the_bundles(logged: Logged) -> None:
    data, task = logged.recipe.load_data(), logged.bundle.task
    data = replace(data, test=task.examples(data.test))
    measured = logged.recipe.evaluate(task, logged.bundle.open(), data)
    assert measured == pytest.approx(logged.result.metrics, rel=1e-6, abs=1e-12)
    assert logged.bundle.manifest.metrics == logged.result.metrics


def test_data_are_inputs_with_digest_and_context(logged: Logged) -> None:
    digest = raw(logged.recipe.dataset).digest[:36]
    inputs = logged.run.inputs.dataset_inputs
    assert {i.dataset.digest for i in inputs} == {digest}
    contexts = {i.dataset.name: [tag.value for tag in i.tags] for i in inputs}
    name = logged.recipe.dataset_name
    assert contexts == {name: ["training"], f"{name}-test": ["testing"]}


def test_figures(logged: Logged) -> None:
    files = logged.client.list_artifacts(logged.result.run_id, "figures")
    drawn = {file.path.removeprefix("figures/").removesuffix(".png") for file in files}
    ahead = {"error_by_step"} if getattr(logged.recipe, "horizon", 1) > 1 else set()
    assert drawn == {"learning_curves"} | FIGURES[logged.recipe.architecture, logged.kind] | ahead
    for file in files:
        path = logged.client.download_artifacts(logged.result.run_id, file.path)
        from PIL import Image

        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 100


def test_table_of_figures_is_complete() -> None:
    trained = {(name, kind) for name, _ in QUICK for kind in recipe_for(name).kinds}
    assert set(FIGURES) == trained


def test_model_card(logged: Logged) -> None:
    card = mlflow.artifacts.load_text(f"runs:/{logged.result.run_id}/card.md")
    assert card == logged.bundle.read_text("card.md")
    assert card.startswith(f"# {logged.result.model}\n")
    assert logged.recipe.paper in card
    assert f"{logged.result.value:.6g}" in card
    assert logged.bundle.task.endpoint in card


def test_git_commit(logged: Logged) -> None:
    checkout = Path(__file__).parent
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True)
    tags = logged.run.data.tags
    if asked.returncode == 0:
        assert tags["mlflow.source.git.commit"] == asked.stdout.strip()
        assert tags["git.dirty"] in ("true", "false")
    else:  # not a checkout: an archive of the sources
        assert "git.dirty" not in tags


@pytest.mark.parametrize("logged", ONE_GRAPH, ids="-".join, indirect=True)
def test_signature_and_input_example(logged: Logged) -> None:
    info = mlflow.models.get_model_info(f"models:/{logged.result.model}/{logged.result.version}")
    (signature,) = logged.bundle.task.signatures()
    assert tuple(info.signature.inputs.input_names()) == signature.inputs
    assert tuple(info.signature.outputs.input_names()) == signature.outputs
    assert all(spec.shape[0] == -1 for spec in info.signature.inputs.inputs)
    model = mlflow.pyfunc.load_model(f"models:/{logged.result.model}/{logged.result.version}")
    example = model.input_example
    assert set(example) == set(signature.inputs)
    assert model.predict(example).keys() == set(signature.outputs)


@pytest.mark.parametrize("logged", ONE_GRAPH, ids="-".join, indirect=True)
def test_pyfunc_and_onnx_answer_as_the_bundle(logged: Logged) -> None:
    version = f"{logged.result.model}/{logged.result.version}"
    uri = f"models:/{logged.result.model}@champion" if logged.result.champion else f"models:/{version}"
    task = logged.bundle.task
    inputs = task.examples_for(task.signatures()[0], 5)
    expected = logged.bundle.open()(inputs)
    answer = mlflow.pyfunc.load_model(uri).predict(inputs)
    run = Graph(mlflow.onnx.load_model(uri).SerializeToString())
    for name, array in expected.items():
        np.testing.assert_array_equal(answer[name], array)
        np.testing.assert_array_equal(run(inputs)[name], array)


def test_a_registered_model_needs_no_torch(zoo: QuickZoo) -> None:
    code = """
import sys, json, mlflow
from zoo.home import tracking_uri
mlflow.set_tracking_uri(tracking_uri())
model = mlflow.pyfunc.load_model("models:/linear-regression-diabetes@champion")
values = model.predict(model.input_example)["value"]
loaded = [name for name in ("torch", "training", "zoo.models") if name in sys.modules]
print(json.dumps([values.tolist(), loaded]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    values, loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded == []
    assert len(values) == 1


# Runs that are being written


def test_onnx_runtime_may_be_the_one_for_gpus(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def version_of(name: str) -> str:
        if name == "onnxruntime":  # its distribution is called onnxruntime-gpu
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(tracking, "version", version_of)
    result = train(replace(recipe_for("perceptron", "iris-setosa"), epochs=1, bar=None))
    assert result is not None
    requirements = mlflow.pyfunc.get_model_dependencies(f"models:/{result.model}/{result.version}")
    assert f"onnxruntime=={onnxruntime.__version__}" in Path(requirements).read_text().splitlines()


class CountingClient(MlflowClient):
    """MLflow's client, counting what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def log_metric(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("one point by itself")

    def log_batch(
        self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = (), **more: Any
    ) -> None:
        self.batches.append(len(metrics))
        super().log_batch(run_id, metrics, params, tags, **more)


def test_points_are_sent_together(home: object) -> None:
    connect()
    client = CountingClient()
    run_id = client.create_run("0").info.run_id
    log = tracking.RunLog(client, run_id, {})
    points = 2500
    for step in range(1, points + 1):
        log.points({"batch_loss": [(step, 1 / step)]})
    log.flush()
    assert sum(client.batches) == points
    assert len(client.batches) <= 6
    assert max(client.batches) <= 1000
    assert log.seconds > 0
    page = client.get_metric_history(run_id, "batch_loss")
    assert [(m.step, m.value) for m in page] == [(step, 1 / step) for step in range(1, points + 1)]


def test_points_that_mlflow_has_are_not_sent_again(home: object) -> None:
    client = connect()
    with tracking.run("first", "diabetes", system_metrics=False) as log:
        log.points({"train_loss": [(1, 3.0), (2, 2.0)]})
    tracking.scratch(log.run_id).mkdir(parents=True)
    (tracking.scratch(log.run_id) / tracking.RECIPE).write_text("{}")
    with tracking.resumed(log.run_id) as again:
        assert again.run_id == log.run_id
        again.points({"train_loss": [(1, 3.0), (2, 2.0), (3, 1.0)], "validation_loss": [(3, 1.5)]})
    history = client.get_metric_history(log.run_id, "train_loss")
    assert [(m.step, m.value) for m in history] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert [m.step for m in client.get_metric_history(log.run_id, "validation_loss")] == [3]


@pytest.mark.parametrize(
    ("raised", "status"), [(None, "FINISHED"), (ValueError("odd"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_how_a_run_ends(home: object, raised: BaseException | None, status: str) -> None:
    points: Points = {"train_loss": [(1, 1.0)]}
    run_id = ""

    def go() -> None:
        nonlocal run_id
        with tracking.run("run", "diabetes", system_metrics=False) as log:
            run_id = log.run_id
            log.points(points)
            if raised is not None:
                raise raised

    if raised is None:
        go()
    else:
        with pytest.raises(type(raised)):
            go()
    run = connect().get_run(run_id)
    assert run.info.status == status
    assert run.data.metrics["train_loss"] == 1.0, "what was pending is lost"
    assert run.data.tags.get("failure") == ("ValueError: odd" if status == "FAILED" else None)


def test_nested_runs(home: object) -> None:
    with (
        tracking.run("parent", "diabetes", system_metrics=False) as parent,
        tracking.run("child", "diabetes", parent.run_id, system_metrics=False) as child,
    ):
        pass
    assert connect().get_run(child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id
    assert connect().get_run(parent.run_id).info.status == "FINISHED"


def test_system_metrics(home: object) -> None:
    mlflow.set_system_metrics_sampling_interval(0.1)
    mlflow.set_system_metrics_samples_before_logging(1)
    try:
        with tracking.run("watched", "diabetes") as log:
            time.sleep(1.0)
    finally:
        mlflow.set_system_metrics_sampling_interval(None)
        mlflow.set_system_metrics_samples_before_logging(None)
    assert "system/cpu_utilization_percentage" in connect().get_run(log.run_id).data.metrics


def test_a_local_store_keeps_everything_under_its_home(zoo: QuickZoo) -> None:
    run = connect().get_run(zoo.results["mlp", "xor"].run_id)
    assert run.info.artifact_uri.startswith((zoo.home / "artifacts" / "xor").as_uri())


def test_a_resumed_run_needs_its_recipe(home: object) -> None:
    from zoo.errors import NotFound

    with pytest.raises(NotFound, match="cannot be resumed: it has ended"), tracking.resumed("0" * 32):
        pass


SIZES = {
    TEXT: ("model", "batch_size", "precision"),
    "llama": ("model",),
    "efficientnet-lite0": ("validation_share",),
    "transformer": ("validation_share",),
}


def test_recipes_of_a_short_run_are_still_whole() -> None:
    """The quick recipes differ from the real ones in length and bar, and some in size or in their data's."""
    for (name, dataset), recipe in QUICK.items():
        real = recipe_for(name, dataset)
        changed = ["epochs", "bar", *SIZES.get(dataset if dataset == TEXT else name, ())]
        assert replace(recipe, **{field: getattr(real, field) for field in changed}) == real
