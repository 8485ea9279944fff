"""Where state and data live, from the environment.

| variable | default | holds |
|---|---|---|
| `ZOO_HOME` | `.zoo` in the working directory | `mlflow.db`, `artifacts/`, `checkpoints/`, caches |
| `ZOO_DATA` | `$ZOO_HOME/data` | data sets, may be read-only |
| `MLFLOW_TRACKING_URI` | `sqlite:///$ZOO_HOME/mlflow.db` | MLflow's own setting: runs and registry |

A home that the zoo makes is for its owner alone. One that is already there keeps its permissions, because its
owner may share it on purpose.
"""

import hashlib
import os
from pathlib import Path


def home() -> Path:
    """`ZOO_HOME`, absolute; not necessarily there yet."""
    return Path(os.environ.get("ZOO_HOME", ".zoo")).expanduser().resolve()


def make_directory(directory: Path) -> None:
    """Makes a directory and those above it, where they are missing."""
    if directory.is_relative_to(home()):
        home().mkdir(0o700, parents=True, exist_ok=True)
    directory.mkdir(parents=True, exist_ok=True)


def data_directories() -> tuple[Path, ...]:
    """Where data sets are looked for, first match wins; downloads go to the last one."""
    fetched = home() / "data"
    given = os.environ.get("ZOO_DATA")
    return (Path(given).expanduser().resolve(), fetched) if given else (fetched,)


def download_directory() -> Path:
    """Where downloaded data sets go; made where it is missing."""
    directory = data_directories()[-1]
    make_directory(directory)
    return directory


def tracking_uri() -> str:
    """MLflow's tracking and registry URI."""
    return os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{home() / 'mlflow.db'}")


def serving_cache() -> Path:
    """Where the service keeps what it serves from the tracking store, for a start without it."""
    return home() / "cache" / "serving" / hashlib.sha256(tracking_uri().encode()).hexdigest()[:16]
