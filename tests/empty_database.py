"""An MLflow database without runs: making one takes seconds, writing its bytes nothing."""

import tempfile
from functools import cache
from pathlib import Path

from mlflow import MlflowClient


@cache
def empty_database() -> bytes:
    """What a SQLite file holds that MLflow has just made."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        MlflowClient(f"sqlite:///{path}").search_experiments(max_results=1)
        return path.read_bytes()
