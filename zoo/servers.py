"""Command lines of the two servers: the prediction service and the MLflow UI."""

import os
import sys

from zoo.home import home, tracking_uri

LAST_SECONDS = 5
"""Seconds that the server waits at shutdown for clients that do not read the end of their answers."""


def service_command(host: str, port: int) -> list[str]:
    """Returns the command line of the prediction service."""
    address = ["--host", host, "--port", str(port)]
    serve = [sys.executable, "-m", "bentoml", "serve", "serving.service:ZooService", *address]
    return [*serve, "--timeout-graceful-shutdown", str(LAST_SECONDS)]


def mlflow_ui_command(host: str, port: int) -> list[str]:
    """Returns the MLflow UI's command line; the store must exist (`training.store.connect` creates it)."""
    address = ["--host", host, "--port", str(port)]
    return [sys.executable, "-m", "mlflow", "ui", *address, "--workers", "1"]


def mlflow_ui_environment() -> dict[str, str]:
    """Returns the environment variables of the MLflow UI.

    The store's URI is passed here because it may hold a password, and every user of the machine can read a
    command line. Without the last variable, MLflow starts eight workers of 250 MB each for GenAI jobs.
    """
    jobs = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"
    return {
        "MLFLOW_BACKEND_STORE_URI": tracking_uri(),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": (home() / "artifacts").as_uri(),
        jobs: os.environ.get(jobs, "false"),
    }
