"""The MLflow store that contains the runs and the registry; it is created on first use.

Training uses MLflow only here, in `tracking.py` (runs) and in `promotion.py` (versions); MLflow itself runs
`text_model.py`.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
from filelock import FileLock, Timeout
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from zoo.credentials import hide_credentials, without_credentials
from zoo.errors import ZooError
from zoo.file_access import denial
from zoo.home import home, make_directory, tracking_uri

LOCK_SECONDS = 120.0
"""Maximum wait for a lock. Its longest holder creates the tables of a new database, in about 10 s."""
OWNER_ONLY = 0o077  # umask that removes all permissions of group and others


def connect() -> MlflowClient:
    """Returns a client of the tracking store, whose database is created on first use.

    Raises `ZooError` if the store does not answer.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = without_credentials(tracking_uri())
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    with locked("mlflow"), _files_for_their_owner():  # two first runs at once would both create the tables
        if uri.startswith("sqlite:///"):
            with suppress(FileNotFoundError):  # MLflow reports a missing permission in hundreds of lines
                Path(uri.removeprefix("sqlite:///")).open("r+b").close()
        try:
            client = MlflowClient()
            client.search_experiments(max_results=1)
        except (MlflowException, SQLAlchemyError) as error:
            reason = hide_credentials(str(error))
            raise ZooError(f"the tracking store {hide_credentials(uri)} cannot be used: {reason}") from None
    return client


def experiment_id(client: MlflowClient, name: str) -> str:
    """Returns an experiment's id; creates it on first use, in a local store with artifacts under ZOO_HOME."""
    with locked("mlflow"):
        if found := client.get_experiment_by_name(name):
            return str(found.experiment_id)
        local = tracking_uri().startswith("sqlite:")
        location = (home() / "artifacts" / name).as_uri() if local else None
        return str(client.create_experiment(name, artifact_location=location))


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Holds a lock among the processes that share this home; raises `ZooError` if another one keeps it."""
    make_directory(home())
    path = home() / f"{name}.lock"
    lock = FileLock(path, LOCK_SECONDS, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise ZooError(
            f"another process has held {path} for {LOCK_SECONDS:g} s; try again when it has ended"
        ) from None
    except OSError as error:
        raise ZooError(denial(error) or f"{path} cannot be locked: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _files_for_their_owner() -> Iterator[None]:
    """Makes new files accessible only to their owner."""
    before = os.umask(OWNER_ONLY)
    try:
        yield
    finally:
        os.umask(before)
