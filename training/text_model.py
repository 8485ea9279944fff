"""What MLflow runs for a bundle that turns texts into texts: `mlflow.pyfunc.load_model(...).predict(texts)`.

A bundle of several graphs is no model of MLflow's ONNX flavour. MLflow copies this file and the package `zoo`
beside the bundle's own files, and runs it there; nothing is pickled.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from zoo import bundle


class TextModel(PythonModel):
    """Takes a table with the column `text`, and returns one with the same column."""

    def load_context(self, context: Any) -> None:
        self._bundle = bundle.load(Path(__file__).parent)
        self._run = self._bundle.open()

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        request = {"model": self._bundle.manifest.model, "text": model_input["text"].tolist()}
        return pd.DataFrame({"text": bundle.ask(self._bundle.task, self._run, request)["texts"]})


set_model(TextModel())
