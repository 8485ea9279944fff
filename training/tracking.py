"""MLflow runs: parameters, metrics, figures, data sets, models.

Points are collected in memory and sent by `log_batch`: 0.13 ms each instead of 2.5 ms.
"""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import onnx
import onnxruntime
import pandas as pd
from matplotlib.figure import Figure
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file, save_file
from torch import Tensor

import zoo
from training.datasets import Data
from training.loop import Points
from training.store import connect, experiment_id
from zoo.bundle import Bundle
from zoo.errors import NotFound, TrainingDiverged
from zoo.home import home
from zoo.tasks import Arrays

BATCH = 1000  # MLflow's limit of metrics in one call
PARAM_BATCH = 100  # MLflow's limit of parameters in one call
FLUSH_SECONDS = 5.0
DIGEST_LENGTH = 36  # MLflow's limit for a data set's digest
CHECKPOINT = "checkpoint.pt"
RECIPE = "recipe.json"
WEIGHTS = "weights.safetensors"


def scratch(run_id: str) -> Path:
    """Returns the folder of a run's checkpoint and recipe; removed when the run succeeds or diverges."""
    return home() / "checkpoints" / run_id


@dataclass
class RunLog:
    """Writer of one MLflow run."""

    client: MlflowClient
    run_id: str
    logged: dict[str, int]
    """Last logged step of each metric, so that a resumed run logs no point twice."""
    pending: list[Metric] = field(default_factory=list)
    flushed: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    """Time spent in logging points, in seconds."""

    def points(self, points: Points) -> None:
        """Collects points, which are sent every few seconds."""
        started, now = time.perf_counter(), int(time.time() * 1000)
        for name, added in points.items():
            last = self.logged.get(name, -1)
            self.pending += [Metric(name, value, now, step) for step, value in added if step > last]
            self.logged[name] = max([last, *(step for step, _ in added)])
        if time.monotonic() - self.flushed > FLUSH_SECONDS or len(self.pending) > BATCH:
            self.flush()
        self.seconds += time.perf_counter() - started

    def flush(self) -> None:
        """Sends the pending points."""
        for start in range(0, len(self.pending), BATCH):
            self.client.log_batch(self.run_id, metrics=self.pending[start : start + BATCH])
        self.pending, self.flushed = [], time.monotonic()

    def params(self, params: dict[str, Any]) -> None:
        """Logs every value as a parameter."""
        entries = [Param(name, str(v)) for name, v in params.items()]
        for start in range(0, len(entries), PARAM_BATCH):
            self.client.log_batch(self.run_id, params=entries[start : start + PARAM_BATCH])

    def tags(self, tags: dict[str, str]) -> None:
        """Sets tags of the run."""
        self.client.log_batch(self.run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def figures(self, figures: dict[str, Figure]) -> None:
        """Stores each figure as `figures/<name>.png`."""
        for name, figure in figures.items():
            self.client.log_figure(self.run_id, figure, f"figures/{name}.png")

    def text(self, text: str, path: str) -> None:
        """Stores a text file among the run's artifacts."""
        self.client.log_text(self.run_id, text, path)

    def weights(self, weights: dict[str, Tensor]) -> None:
        """Stores a model's weights for transfer learning; see `weights_of`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / WEIGHTS
            save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, path)
            self.client.log_artifact(self.run_id, str(path))

    def model(self, bundle: Bundle, example: Arrays, metrics: dict[str, float], data: Data) -> str:
        """Logs a bundle as an MLflow model, with metrics linked to it and to the data; returns its id."""
        if len(bundle.graph_paths) == 1:
            given, outputs = example, bundle.open()(example)
        else:
            asked = bundle.golden.request
            given, outputs = (
                pd.DataFrame({"text": texts}) for texts in ([asked["text"]], bundle.golden.answer["texts"])
            )
        info = Model.log(
            None,
            _BundleFlavor,
            name=bundle.manifest.model,
            bundle=bundle,
            signature=infer_signature(given, outputs),
            input_example=given,
            validate_serving_input=False,  # would start a scoring server's parser; a test does
        )
        model_id: str = info.model_id
        mlflow.log_metrics(metrics, model_id=model_id, dataset=_mlflow_dataset(data))
        return model_id


@contextmanager
def run(
    name: str, experiment: str, parent: str | None = None, system_metrics: bool = True
) -> Iterator[RunLog]:
    """Opens a new run, which ends as finished, failed (with the reason as a tag) or killed."""
    client = connect()
    tags = {"mlflow.parentRunId": parent} if parent else {}
    started = mlflow.start_run(
        experiment_id=experiment_id(client, experiment),
        run_name=name,
        tags=tags | _git_tags(),
        nested=parent is not None,
        log_system_metrics=system_metrics,
    )
    with _ending(RunLog(client, started.info.run_id, {})) as log:
        yield log


@contextmanager
def resumed(run_id: str) -> Iterator[RunLog]:
    """Reopens a run that was killed; raises `NotFound` if it cannot be resumed."""
    client = connect()
    if not (scratch(run_id) / RECIPE).exists():
        raise NotFound(f"run {run_id} cannot be resumed: it has ended, or was not started from {home()}")
    mlflow.start_run(run_id=run_id, log_system_metrics=True)
    keys = client.get_run(run_id).data.metrics
    logged = {key: max(m.step for m in client.get_metric_history(run_id, key)) for key in keys}
    with _ending(RunLog(client, run_id, logged)) as log:
        yield log


@contextmanager
def _ending(log: RunLog) -> Iterator[RunLog]:
    status = "FAILED"
    try:
        yield log
        status = "FINISHED"
        shutil.rmtree(scratch(log.run_id), ignore_errors=True)
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except Exception as error:
        log.tags({"failure": f"{type(error).__name__}: {error}"[:5000]})
        if isinstance(error, TrainingDiverged):  # resuming from its checkpoint would diverge again
            shutil.rmtree(scratch(log.run_id), ignore_errors=True)
        raise
    finally:
        log.flush()
        mlflow.end_run(status)


def log_inputs(log: RunLog, data: Data) -> None:
    """Links the run to its data set and to the test part; may be repeated for the same run."""
    _log_input(_mlflow_dataset(data), "training")
    # Under a separate name: MLflow keeps only the first context of a data set in a run.
    _log_input(_mlflow_dataset(data, "-test"), "testing")
    log.params({"data.digest": data.digest, "data.source": data.source})


def _log_input(dataset: MetaDataset, context: str) -> None:
    try:
        mlflow.log_input(dataset, context=context)
    except MlflowException:  # such as when another run registers the same data set at the same moment
        mlflow.log_input(dataset, context=context)


def recipe_of(run_id: str) -> dict[str, Any]:
    """Returns the `recipe.json` of a run; raises `NotFound` if it has none."""
    saved: dict[str, Any] = json.loads(_artifact(run_id, RECIPE).read_text(encoding="utf-8"))
    return saved


def weights_of(run_id: str) -> dict[str, Tensor]:
    """Returns the weights that a run has stored; raises `NotFound` if it has none."""
    return load_file(_artifact(run_id, WEIGHTS))


def _artifact(run_id: str, name: str) -> Path:
    connect()
    try:
        return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name))
    except (OSError, MlflowException) as error:
        raise NotFound(f"run {run_id} has left no {name}: {error}") from error


class _BundleFlavor:
    """MLflow flavour that saves a bundle as a standard MLflow model, beside the bundle's own files.

    A bundle with one graph has MLflow's ONNX flavour; one with several is run by `training.text_model`.
    """

    @staticmethod
    def save_model(path: str, mlflow_model: Model, bundle: Bundle, **kwargs: Any) -> None:
        kwargs.pop("validate_serving_input")
        needed = _pinned("mlflow", "numpy")
        needed.append(f"onnxruntime=={onnxruntime.__version__}")  # may be installed as onnxruntime-gpu
        if len(bundle.graph_paths) == 1:
            mlflow.onnx.save_model(
                onnx.load(bundle.graph_path),
                path,
                mlflow_model=mlflow_model,
                pip_requirements=[*needed, *_pinned("onnx")],
                onnx_execution_providers=["CPUExecutionProvider"],
                save_as_external_data=False,
                **kwargs,
            )
        else:
            mlflow.pyfunc.save_model(
                path,
                python_model=str(Path(__file__).with_name("text_model.py")),
                code_paths=[str(Path(zoo.__file__).parent)],
                mlflow_model=mlflow_model,
                pip_requirements=[*needed, *_pinned("pillow", "pydantic", "tokenizers")],
                **kwargs,
            )
        for name in (*bundle.manifest.files, "manifest.json"):
            shutil.copy(bundle.directory / name, Path(path) / name)


def _pinned(*packages: str) -> list[str]:
    return [f"{name}=={version(name)}" for name in packages]


def _mlflow_dataset(data: Data, part: str = "") -> Any:
    source = CodeDatasetSource(tags={"source": data.source})
    return MetaDataset(  # type: ignore[abstract]  # MLflow's class, used as documented
        source, name=data.name + part, digest=data.digest[:DIGEST_LENGTH]
    )


def _git_tags() -> dict[str, str]:
    """Returns tags with the commit of the code and whether it has changes; empty outside a git checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
        ).stdout

    try:
        return {
            "mlflow.source.git.commit": git("rev-parse", "HEAD").strip(),
            "git.dirty": str(bool(git("status", "--porcelain", "--untracked-files=no"))).lower(),
        }
    except (OSError, subprocess.CalledProcessError):
        return {}
