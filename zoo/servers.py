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
    return [
        sys.executable, "-m", "mlflow", "ui",
        "--backend-store-uri", tracking_uri(),
        "--default-artifact-root", (home() / "artifacts").as_uri(),
        "--host", host, "--port", str(port), "--workers", "1",
    ]  # fmt: skip


def mlflow_ui_environment() -> dict[str, str]:
    """Variables of the MLflow UI: without them it starts eight workers, of 250 MB each, for jobs of GenAI."""
    name = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"
    return {name: os.environ.get(name, "false")}
