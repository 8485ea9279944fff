"""Runs that are cut short: by SIGKILL, by Ctrl-C, between two calls; and run on several processes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from training import pipeline, promotion, tracking
from training.command import train
from training.optimizer import Optimizer
from training.pipeline import RunResult
from training.recipes import recipe_for
from training.store import connect
from zoo import bundle
from zoo.errors import NotFound
from zoo.models.mlp import MLPConfig

pytestmark = pytest.mark.slow

# What a resumed run could get wrong takes part: dropout, moments, schedule, early stopping, random batches.
RECIPE = replace(
    recipe_for("mlp", "breast-cancer"),
    epochs=400,
    patience=350,
    batch_size=64,
    bar=None,
    model=MLPConfig((16,), dropout=0.3),
    optimizer=Optimizer("adamw", 3e-3, weight_decay=0.1, schedule="cosine"),
)
WORDS = [
    "mlp", "--dataset", "breast-cancer", "--epochs", "400", "--patience", "350", "--batch-size", "64",
    "--bar", "None", "--model.hidden", "16", "--model.dropout", "0.3", "--optimizer.name", "adamw",
    "--optimizer.weight-decay", "0.1", "--optimizer.schedule", "cosine",
]  # fmt: skip
# The real command, but with a checkpoint after every epoch.
OFTEN = """
import sys, training.loop
training.loop.CHECKPOINT_SECONDS = 0.0
from zoo.cli import main
main(["train", *sys.argv[1:]])
"""
TIMEOUT = 120


@contextmanager
def zoo_train(words: list[str]) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", OFTEN, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def checkpoint(home: Path, process: "subprocess.Popen[str]", newer_than: int = 0) -> Path:
    """The run's checkpoint, once the process has written one."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        for path in home.glob(f"checkpoints/*/{tracking.CHECKPOINT}"):
            if path.stat().st_mtime_ns > newer_than:
                return path
        time.sleep(0.005)
    raise AssertionError(f"no checkpoint: {process.communicate()}")


def weights(result: RunResult) -> dict[str, np.ndarray]:
    loaded = bundle.load(promotion.download(result.model, result.version))
    graph = onnx.load(loaded.graph_path).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def history(run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in connect().get_metric_history(run_id, name)]


def test_a_killed_run_ends_as_if_it_never_was(home: Path) -> None:
    with zoo_train(WORDS) as process:
        path = checkpoint(home, process)
        run_id = path.parent.name
        time.sleep(random.uniform(0, 0.3))
        assert process.poll() is None, "over before it was killed: train for longer"
        process.kill()
        assert process.wait() == -signal.SIGKILL
    killed_at = path.stat().st_mtime_ns

    with zoo_train(["--resume", run_id]) as process:  # now Ctrl-C
        checkpoint(home, process, killed_at)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 130, errors
        assert "interrupted" in errors
        assert "Traceback" not in errors
    assert connect().get_run(run_id).info.status == "KILLED"
    assert promotion.leaderboard() == []

    train(["--resume", run_id])

    whole = pipeline.train(RECIPE)
    assert whole is not None
    (resumed,) = [row for row in promotion.leaderboard() if row.run_id == run_id]
    run, reference = (connect().get_run(one) for one in (run_id, whole.run_id))
    assert run.info.status == "FINISHED"
    assert run.data.params == reference.data.params
    assert resumed.record.metrics == whole.metrics
    ours, theirs = weights(replace(whole, version=resumed.version)), weights(whole)
    assert ours.keys() == theirs.keys()
    assert len(ours) >= 4
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])
    for name in ("train_loss", "validation_loss", "validation_accuracy", "batch_loss"):
        points = history(run_id, name)
        assert len(points) > 5
        assert len({step for step, _ in points}) == len(points), f"{name} was logged twice"
        assert points == history(whole.run_id, name)

    with pytest.raises(NotFound, match=f"run {run_id} cannot be resumed: it has ended"):
        train(["--resume", run_id])


@pytest.mark.parametrize("moment", ["log_inputs", "Model.log", "promotion.register"])
def test_a_run_cut_between_two_calls_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Power fails before the data set is linked, before the model is logged, before it is registered."""

    class PowerFailure(BaseException):
        pass

    def fail(*args: object, **kwargs: object) -> None:
        raise PowerFailure

    targets = {
        "log_inputs": "training.tracking.log_inputs",
        "Model.log": "training.tracking.Model.log",
        "promotion.register": "training.promotion.register",
    }
    recipe = replace(recipe_for("mlp", "xor"), epochs=3, bar=None)
    with monkeypatch.context() as patch:
        patch.setattr(targets[moment], fail)
        with pytest.raises(PowerFailure):
            pipeline.train(recipe)
    (folder,) = home.glob("checkpoints/*")
    result = pipeline.train(recipe, resume=folder.name)
    assert result is not None
    assert result.run_id == folder.name
    run = connect().get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.name"] == "adam"
    assert len(run.inputs.dataset_inputs) == 2
    assert [step for step, _ in history(result.run_id, "train_loss")] == [1, 2, 3]
    assert len(promotion.leaderboard()) == 1
    assert not folder.exists()


def test_two_processes_train_one_model(home: Path) -> None:
    zoo = str(Path(sys.executable).with_name("zoo"))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["train", "mlp", "--dataset", "xor", "--epochs", "5", "--device", "cpu", "--json"]
    done = subprocess.run(
        [*launcher, "--no-python", zoo, *words],
        capture_output=True, text=True, timeout=TIMEOUT, env={**os.environ, "NCCL_DEBUG": "WARN"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    (row,) = promotion.leaderboard()
    assert (row.run_id, row.version) == (result["run_id"], "1")
    run = connect().get_run(row.run_id)
    assert run.info.status == "FINISHED"
    assert [step for step, _ in history(row.run_id, "train_loss")] == [1, 2, 3, 4, 5]
    # 288 training rows, 144 a process, 16 of the 32 a step: as many steps as one process takes.
    assert [step for step, _ in history(row.run_id, "validation_loss")] == [1, 2, 3, 4, 5]
    losses = [value for _, value in history(row.run_id, "train_loss")]
    assert losses[-1] < losses[0]
