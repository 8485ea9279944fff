"""Where state and data live, from the environment.

| variable | default | holds |
|---|---|---|
| `ZOO_HOME` | `.zoo` in the working directory | `mlflow.db`, `artifacts/`, `checkpoints/`, caches |
| `ZOO_DATA` | `$ZOO_HOME/data` | data sets, may be read-only |
| `MLFLOW_TRACKING_URI` | `sqlite:///$ZOO_HOME/mlflow.db` | MLflow's own setting: runs and registry |
"""

import hashlib
import os
from pathlib import Path


def home() -> Path:
    """`ZOO_HOME`, absolute; not necessarily there yet."""
    return Path(os.environ.get("ZOO_HOME", ".zoo")).expanduser().resolve()


def data_directories() -> tuple[Path, ...]:
    """Where data sets are looked for, first match wins; downloads go to the last one."""
    fetched = home() / "data"
    given = os.environ.get("ZOO_DATA")
    return (Path(given).expanduser().resolve(), fetched) if given else (fetched,)


def tracking_uri() -> str:
    """MLflow's tracking and registry URI."""
    return os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{home() / 'mlflow.db'}")


def serving_cache() -> Path:
    """Where the service keeps what it serves from the tracking store, for a start without it."""
    return home() / "cache" / "serving" / hashlib.sha256(tracking_uri().encode()).hexdigest()[:16]
