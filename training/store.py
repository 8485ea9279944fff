"""The MLflow store that runs and the registry live in; made on first use.

With `tracking.py` (runs) and `promotion.py` (versions), all that training knows of MLflow.
"""

import logging

import mlflow
from filelock import FileLock
from mlflow.tracking import MlflowClient

from zoo.home import home, tracking_uri


def connect() -> MlflowClient:
    """A client of the tracking store, whose database is made on first use."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(tracking_uri())
    mlflow.set_registry_uri(tracking_uri())
    with store_lock():  # two first runs at once would both migrate the empty database
        client = MlflowClient()
        client.search_experiments(max_results=1)
    return client


def experiment_id(client: MlflowClient, name: str) -> str:
    """Id of the experiment, made on first use; a local store keeps its artifacts under ZOO_HOME."""
    with store_lock():
        if found := client.get_experiment_by_name(name):
            return str(found.experiment_id)
        local = tracking_uri().startswith("sqlite:")
        location = (home() / "artifacts" / name).as_uri() if local else None
        return str(client.create_experiment(name, artifact_location=location))


def store_lock() -> FileLock:
    """Held while something is made that must be made once."""
    home().mkdir(parents=True, exist_ok=True)
    return FileLock(home() / "mlflow.lock")
