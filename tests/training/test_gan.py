"""The GAN's recipe: what it trains on, how it is measured, what its run shows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from quick_training import QUICK, QuickZoo, raw
from torch import nn

from training import pipeline, promotion, tracking
from training.judge import judge_of
from training.optimizer import Optimizer
from training.recipes import recipe_for
from training.recipes.gan import GANRecipe
from training.report import slerp
from training.store import connect
from zoo import bundle
from zoo.errors import ZooError
from zoo.models.gan import GAN, GANConfig
from zoo.tasks.image_generation import ImageGeneration

KEY = ("gan", "mnist-5k")


def recipe(**changes: object) -> GANRecipe:
    return replace(recipe_for("gan"), **changes)  # type: ignore[return-value, arg-type]


def test_the_judge_is_trained_first() -> None:
    for dataset in ("mnist-5k", "mnist", "fashion-mnist"):
        assert recipe_for("gan", dataset).prerequisites() == (recipe_for("lenet5", dataset),)


def test_the_task_has_the_models_latent_size() -> None:
    small = recipe(dataset="digits", model=GANConfig(7, 2))
    task = small.fit_task(raw("digits"))
    assert isinstance(task, ImageGeneration)
    assert (task.height, task.width, task.channels, task.latent_size) == (8, 8, 1, 7)
    assert task.labels == tuple("0123456789")


def test_tables_and_patience_are_refused() -> None:
    with pytest.raises(ZooError, match="gan learns from images with classes; iris-setosa is tabular"):
        pipeline.prepare(recipe(dataset="iris-setosa"))
    with pytest.raises(ZooError, match="leave out --patience"):
        recipe(patience=3)


def test_fewer_images_a_class() -> None:
    prepared = pipeline.prepare(recipe(dataset="digits", images_per_class=4, validation_share=0.0))
    assert np.bincount(prepared.data.train["target"]).tolist() == [4] * 10


def test_slerp_stays_at_the_length_of_its_ends() -> None:
    one, other = np.array([3.0, 0.0], np.float32), np.array([0.0, 3.0], np.float32)
    way = slerp(one, other, np.linspace(0, 1, 5))
    angles = np.pi / 2 * np.linspace(0, 1, 5)
    np.testing.assert_allclose(way, 3 * np.stack([np.cos(angles), np.sin(angles)], axis=1), atol=1e-6)


# A run


@pytest.fixture
def artifacts(zoo: QuickZoo) -> set[str]:
    return {file.path for file in connect().list_artifacts(zoo.results[KEY].run_id, "figures")}


def test_a_run_shows_samples_on_the_way_and_at_the_end(artifacts: set[str]) -> None:
    on_the_way = {f"figures/samples_epoch_{epoch:03d}.png" for epoch in range(1, QUICK[KEY].epochs + 1)}
    at_the_end = {"samples", "interpolation", "recognised", "learning_curves"}
    assert artifacts >= on_the_way | {f"figures/{name}.png" for name in at_the_end}


def test_a_run_has_the_curves_of_both_networks(zoo: QuickZoo) -> None:
    names = {
        "train_generator_loss", "train_discriminator_loss", "train_real_score", "train_fake_score",
        "train_told_apart", "train_variety", "train_least_variety", "train_generator_gradient",
        "validation_real_score", "validation_fake_score", "validation_variety",
    }  # fmt: skip
    client = connect()
    for name in names:
        points = client.get_metric_history(zoo.results[KEY].run_id, name)
        assert [point.step for point in points] == list(range(1, QUICK[KEY].epochs + 1)), name


def test_the_metrics_are_the_judges(zoo: QuickZoo) -> None:
    result, data = zoo.results[KEY], raw("mnist-5k")
    loaded = bundle.load(promotion.download(result.model, result.version))
    judge, run = judge_of("mnist-5k"), loaded.open()
    real = {"target": data.test["target"], "features": judge.features(data.test["image"])}
    assert loaded.task.evaluate(judge.after(run), real) == pytest.approx(result.metrics)
    metrics = connect().get_run(result.run_id).data.metrics
    assert set(result.metrics) == {"frechet_distance", "recognised", "precision", "recall"}
    assert 0 <= metrics["test_recognised_least"] <= metrics["test_recognised"]
    assert 0 <= metrics["test_classes_recognised"] <= 10


def test_a_collapsed_run_is_marked(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The generator does not look at its latent vector, and its optimiser leaves that so."""
    collapsed = recipe(
        dataset="digits",
        images_per_class=4,
        epochs=2,
        batch_size=0,
        model=GANConfig(4, 2),
        generator=Optimizer("sgd", 0.0),
    )
    prepared = pipeline.prepare(collapsed)
    assert isinstance(prepared.model, GAN)
    nn.init.zeros_(prepared.model.generator.project.weight)
    with tracking.run("collapsed", "digits", system_metrics=False) as log:
        pipeline.train_prepared(
            prepared, lambda progress, points: pipeline.warn(log, prepared, progress, points)
        )
    tags = connect().get_run(log.run_id).data.tags
    assert tags["failure_sign"].startswith("epoch 2: mode collapse: generated images vary 0.00 times")
    assert "gan-digits: epoch 1: " in caplog.text
