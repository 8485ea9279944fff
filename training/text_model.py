"""MLflow model of a bundle that turns texts into texts: `mlflow.pyfunc.load_model(...).predict(texts)`.

MLflow's ONNX flavour does not support a bundle of several graphs. So MLflow copies this file and the package
`zoo` beside the bundle's own files, and runs it there; nothing is pickled.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from zoo import bundle


class TextModel(PythonModel):
    """Model that takes a table with the column `text` and returns a table with the same column."""

    def load_context(self, context: Any) -> None:
        self._bundle = bundle.load(Path(__file__).parent)
        self._run = self._bundle.open()

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        request = {"model": self._bundle.manifest.model, "text": model_input["text"].tolist()}
        return pd.DataFrame({"text": bundle.ask(self._bundle.task, self._run, request)["texts"]})


set_model(TextModel())
