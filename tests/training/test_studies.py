"""Every study, run with little effort in a real store, and the mathematics that each one shows."""

import dataclasses
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Run
from PIL import Image

from training import study
from training.laboratory import Laboratory
from training.loss_surface import TWO_WEIGHTS, surface_of
from training.optimizer import Optimizer
from training.pipeline import prepare, torch_settings
from training.store import connect
from training.studies import activations, backprop, convolution, minima, pooling
from zoo.errors import NotFound
from zoo.models.mlp import MLPConfig

pytestmark = pytest.mark.slow

EFFORT = 0.1
ROW = {"study", "runs", "conclusion", "figure", "run_id"}


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Path]:
    """One ZOO_HOME for all studies."""
    home = tmp_path_factory.mktemp("studies")
    shutil.copy(empty_store, home / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_HOME", str(home))
        # MLflow puts the URI that it was last told into the environment.
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        yield home


@pytest.fixture(scope="module", params=study.names())
def row(request: pytest.FixtureRequest, store: Path) -> dict[str, Any]:
    return study.conduct(request.param, EFFORT)


def nested(row: dict[str, Any]) -> list[Run]:
    client = connect()
    experiment = client.get_experiment_by_name(f"study-{row['study']}")
    assert experiment is not None
    found = client.search_runs(
        [experiment.experiment_id], f"tags.mlflow.parentRunId = '{row['run_id']}'", max_results=100
    )
    return list(found)


def test_the_studies_are_those_of_the_course() -> None:
    assert study.names() == [
        "activations",
        "attention",
        "augmentation",
        "backprop",
        "convolution",
        "gan-augmentation",
        "learning-rate",
        "memory",
        "minima",
        "optimizers",
        "pooling",
        "regularization",
        "sampling",
        "transfer",
    ]


def test_a_row_is_plain_values(row: dict[str, Any]) -> None:
    assert set(row) == ROW
    assert json.loads(json.dumps(row)) == row
    assert row["conclusion"]


def test_nested_runs_compare(row: dict[str, Any]) -> None:
    runs = nested(row)
    assert len(runs) == row["runs"] >= 3
    assert len({run.info.run_name for run in runs}) == len(runs)
    assert all(run.data.params and run.data.metrics for run in runs)
    assert {run.info.status for run in runs} <= {"FINISHED", "FAILED"}


def test_a_curve_has_more_than_one_point(row: dict[str, Any]) -> None:
    client = connect()
    for run in nested(row):
        histories = [client.get_metric_history(run.info.run_id, name) for name in run.data.metrics]
        assert max(len(history) for history in histories) > 1


def test_the_parent_tells_what_came_out(row: dict[str, Any]) -> None:
    parent = connect().get_run(row["run_id"])
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics
    assert parent.data.tags["study"] == row["study"]
    assert row["conclusion"] in parent.data.tags["mlflow.note.content"]
    assert (Path(row["figure"]).parents[1] / "conclusion.md").read_text(encoding="utf-8") == row["conclusion"]


def test_the_figure_is_a_picture_wide_enough_for_a_slide(row: dict[str, Any]) -> None:
    with Image.open(row["figure"]) as picture:
        assert picture.format == "PNG"
        assert picture.width >= 1200
        assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 10  # something is drawn


def test_an_unknown_study_is_told_which_there_are() -> None:
    with pytest.raises(NotFound, match=r"'pruning'.*activations, attention"):
        study.conduct("pruning")


def test_listing_needs_neither_torch_nor_mlflow() -> None:
    code = (
        "import json, sys; from training import study; print(json.dumps(study.listing())); "
        "sys.exit(bool({'torch', 'mlflow', 'matplotlib'} & set(sys.modules)))"
    )
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    rows = json.loads(listed)
    assert [row["study"] for row in rows] == study.names()
    assert all(row["question"] and "\n" not in row["question"] for row in rows)


def test_too_large_a_rate_fails_and_says_why(store: Path) -> None:
    row = study.conduct("learning-rate")
    by_status: dict[str, list[Run]] = {"FINISHED": [], "FAILED": []}
    for run in nested(row):
        by_status[run.info.status].append(run)
    assert len(by_status["FINISHED"]) == 3
    (failed,) = by_status["FAILED"]
    assert failed.info.run_name.startswith("too large")
    assert "TrainingDiverged: the loss was" in failed.data.tags["failure"]
    assert failed.data.metrics["excess_loss"] > 1e3
    assert "diverged" in row["conclusion"]


def test_theory_predicts_the_measured_loss(store: Path) -> None:
    recipe = dataclasses.replace(TWO_WEIGHTS, epochs=20, optimizer=Optimizer("sgd", 0.3))
    with Laboratory("theory", "").trial("theory", recipe) as trial:
        surface, path = surface_of(trial.prepared), trial.parameters_by_step()
        trial.train()
    assert len(path) == 21
    predicted = surface.excess_after(path[0], np.array([0.3]), 20)
    assert surface.excess(path[-1]) == pytest.approx(predicted.item(), rel=1e-9)


def test_the_largest_rate_is_where_descent_stops_converging() -> None:
    with torch_settings(TWO_WEIGHTS):
        surface = surface_of(prepare(TWO_WEIGHTS))
    start, limit = np.zeros(3), surface.largest_rate
    below, above = surface.excess_after(start, np.array([0.99 * limit, 1.01 * limit]), 1000)
    assert below < surface.excess(start) < above


def test_the_surface_is_the_loss_that_is_trained() -> None:
    with torch_settings(TWO_WEIGHTS):
        prepared = prepare(TWO_WEIGHTS)
        surface = surface_of(prepared)
        train = prepared.data.train
        error = (train["target"] - train["target"].mean()) / train["target"].std()
        lowest = np.mean(error**2) - surface.excess(np.zeros(3))
    residual = np.linalg.lstsq(np.column_stack([train["features"], np.ones(len(error))]), error, rcond=None)[
        1
    ]
    assert lowest == pytest.approx(residual.item() / len(error), rel=1e-9)


@pytest.mark.parametrize("w1", [-2.0, 0.0, 0.6])
@pytest.mark.parametrize("w2", [-1.0, 1.2])
@pytest.mark.parametrize("x", [-0.5, 1.5])
def test_gradients_by_hand_are_those_of_autograd_and_of_differences(w1: float, w2: float, x: float) -> None:
    f = backprop.forward(w1, w2, x, y=0.3)
    hand = backprop.by_hand(f)
    assert set(hand) == set(backprop.RULES)
    assert backprop.by_autograd(f) == pytest.approx(hand, rel=1e-12, abs=1e-15)
    assert backprop.by_differences(f) == pytest.approx(hand, abs=1e-9)


def test_descent_by_hand_lowers_the_loss_at_every_step() -> None:
    losses = [f.loss for f in backprop.descend(backprop.by_hand, 20)]
    assert all(after < before for before, after in itertools.pairwise(losses))


def test_momentum_and_noise_reach_the_global_minimum_more_often() -> None:
    shares = {
        name: [minima.explore(rule, seed)[0] for seed in range(minima.SEEDS)]
        for name, rule in minima.RULES.items()
    }
    plain = max(shares.pop("plain descent"))
    assert all(min(others) > plain for others in shares.values()), shares


def test_plain_descent_ends_in_the_hollow_where_it_starts() -> None:
    _, path = minima.explore(minima.RULES["plain descent"], seed=0)
    _, (left, right) = minima.hollows()
    starts = path[0].numpy()
    np.testing.assert_array_equal(minima.reached(path), (starts > left) & (starts < right))


def test_the_same_seed_takes_the_same_path() -> None:
    rule = minima.RULES["SGD's noise"]
    assert minima.explore(rule, 3)[1].equal(minima.explore(rule, 3)[1])
    assert not minima.explore(rule, 3)[1].equal(minima.explore(rule, 4)[1])


def test_gradients_vanish_with_sigmoids_and_not_with_relus(store: Path) -> None:
    ratio = {}
    for activation in activations.ACTIVATIONS:
        model = MLPConfig(hidden=(activations.WIDTH,) * 8, activation=activation)
        recipe = dataclasses.replace(activations.RECIPE, epochs=1, model=model)
        with Laboratory("gradients", "").trial(activation, recipe) as trial:
            gradients = activations.first_gradients(trial)
            trial.train()
        assert len(gradients) == 9  # eight hidden layers and the output
        ratio[activation] = gradients[0] / gradients[-1]
    assert ratio["sigmoid"] < 1e-4
    assert min(ratio["tanh"], ratio["relu"]) > 0.1


def test_the_path_is_recorded_at_every_step(store: Path) -> None:
    recipe = dataclasses.replace(TWO_WEIGHTS, epochs=2, batch_size=16)
    with Laboratory("path", "").trial("path", recipe) as trial:
        path = trial.parameters_by_step()
        progress = trial.train()
    assert len(path) == progress.step + 1 == 2 * 8 + 1  # 120 rows are 8 batches of 16


@pytest.mark.parametrize("method", convolution.METHODS)
@pytest.mark.parametrize(("height", "width", "side"), [(5, 7, 3), (8, 8, 5), (4, 4, 1)])
def test_convolution_is_the_same_by_hand_by_torch_and_as_a_graph(
    method: str, height: int, width: int, side: int
) -> None:
    random = np.random.default_rng(height)
    image = random.normal(size=(height, width)).astype(np.float32)
    kernel = random.normal(size=(side, side)).astype(np.float32)
    convolved = convolution.METHODS[method](image, kernel)
    assert convolved.shape == (height - side + 1, width - side + 1)
    windows = np.lib.stride_tricks.sliding_window_view(image, (side, side))
    np.testing.assert_allclose(convolved, np.einsum("ijmn,mn->ij", windows, kernel), atol=1e-5)


def test_edge_kernels_answer_to_edges_of_their_direction() -> None:
    step = np.repeat([[0.0, 0.0, 1.0, 1.0]], 4, axis=0).astype(np.float32)  # dark left, bright right
    vertical, horizontal = (
        convolution.KERNELS[f"{name} edges (Sobel)"] for name in ("vertical", "horizontal")
    )
    assert convolution.by_hand(step, vertical).min() == 4
    assert not convolution.by_hand(step, horizontal).any()
    np.testing.assert_array_equal(convolution.by_hand(step.T, horizontal), 4)


def test_shifted_images_are_those_moved() -> None:
    images = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 1)
    moved = pooling.shifted(images, 1)
    np.testing.assert_array_equal(moved[:, 1:, 1:], images[:, :2, :2])
    assert not moved[:, 0].any()
    assert not moved[:, :, 0].any()
    np.testing.assert_array_equal(pooling.shifted(images, 0), images)
