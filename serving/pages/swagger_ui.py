"""Location of Swagger UI's files in the package flask-swagger-ui, which has the same version numbers."""

from importlib.util import find_spec
from pathlib import Path

from zoo.errors import ZooError

PACKAGE = "flask_swagger_ui"


def swagger_ui_folder() -> Path:
    """Returns the folder with Swagger UI's files; raises `ZooError` if the package is not installed."""
    spec = find_spec(PACKAGE)  # not an import, which would import Flask
    if spec is None or spec.origin is None:
        raise ZooError("the page at /docs needs flask-swagger-ui: pip install '.[serving]'")
    return Path(spec.origin).parent / "dist"
