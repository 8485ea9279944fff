"""Command lines of the two servers."""

import os
import sys

from zoo.home import home, tracking_uri

LAST_SECONDS = 5
"""How long the server waits for clients that do not read the end of their answers."""


def service_command(host: str, port: int) -> list[str]:
    """The prediction service."""
    address = ["--host", host, "--port", str(port)]
    serve = [sys.executable, "-m", "bentoml", "serve", "serving.service:ZooService", *address]
    return [*serve, "--timeout-graceful-shutdown", str(LAST_SECONDS)]


def mlflow_ui_command(host: str, port: int) -> list[str]:
    """The MLflow UI over the zoo's store, which must be there (`training.store.connect` makes it)."""
    address = ["--host", host, "--port", str(port)]
    return [sys.executable, "-m", "mlflow", "ui", *address, "--workers", "1"]


def mlflow_ui_environment() -> dict[str, str]:
    """Variables of the MLflow UI.

    The store's URI may hold a password, and every user of the machine can read a command line. Without the
    last variable MLflow starts eight workers, of 250 MB each, for jobs of GenAI.
    """
    jobs = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"
    return {
        "MLFLOW_BACKEND_STORE_URI": tracking_uri(),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": (home() / "artifacts").as_uri(),
        jobs: os.environ.get(jobs, "false"),
    }
