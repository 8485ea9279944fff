"""Command lines of the two servers."""

import sys

from zoo.home import home, tracking_uri


def service_command(host: str, port: int) -> list[str]:
    """The prediction service."""
    address = ["--host", host, "--port", str(port)]
    return [sys.executable, "-m", "bentoml", "serve", "serving.service:ZooService", *address]


def mlflow_ui_command(host: str, port: int) -> list[str]:
    """The MLflow UI over the zoo's store, which must be there (`training.store.connect` makes it)."""
    return [
        sys.executable, "-m", "mlflow", "ui",
        "--backend-store-uri", tracking_uri(),
        "--default-artifact-root", (home() / "artifacts").as_uri(),
        "--host", host, "--port", str(port), "--workers", "1",
    ]  # fmt: skip
