"""Locations of state and data, from environment variables.

| variable | default | holds |
|---|---|---|
| `ZOO_HOME` | `.zoo` in the working directory | `mlflow.db`, `artifacts/`, `checkpoints/`, caches |
| `ZOO_DATA` | `$ZOO_HOME/data` | data sets, may be read-only |
| `MLFLOW_TRACKING_URI` | `sqlite:///$ZOO_HOME/mlflow.db` | MLflow's own setting: runs and registry |

A home that the zoo creates is accessible to its owner only. An existing one keeps its permissions, because
its owner may share it on purpose.
"""

import hashlib
import os
from pathlib import Path


def home() -> Path:
    """Returns `ZOO_HOME` as an absolute path; the directory may not exist yet."""
    return Path(os.environ.get("ZOO_HOME", ".zoo")).expanduser().resolve()


def make_directory(directory: Path) -> None:
    """Creates a directory and its parents, unless they exist."""
    if directory.is_relative_to(home()):
        home().mkdir(0o700, parents=True, exist_ok=True)
    directory.mkdir(parents=True, exist_ok=True)


def data_directories() -> tuple[Path, ...]:
    """Returns the directories to search for data sets, first match wins; downloads go to the last one."""
    fetched = home() / "data"
    given = os.environ.get("ZOO_DATA")
    return (Path(given).expanduser().resolve(), fetched) if given else (fetched,)


def download_directory() -> Path:
    """Returns the directory for downloaded data sets, and creates it if it is missing."""
    directory = data_directories()[-1]
    make_directory(directory)
    return directory


def tracking_uri() -> str:
    """Returns MLflow's tracking and registry URI."""
    return os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{home() / 'mlflow.db'}")


def serving_cache() -> Path:
    """Returns the directory where the service caches served bundles, to start without the tracking store."""
    return home() / "cache" / "serving" / hashlib.sha256(tracking_uri().encode()).hexdigest()[:16]
