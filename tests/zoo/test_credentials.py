"""No message and no command line shows the password of the tracking store."""

import os

import pytest

from zoo.credentials import hide_credentials, without_credentials
from zoo.servers import mlflow_ui_command, mlflow_ui_environment

URI = "postgresql+psycopg://anna:secret@db/zoo"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"got unsupported URI '{URI}' for", "got unsupported URI 'postgresql+psycopg://***@db/zoo' for"),
        ("no http://anna:se/cr@et@db:5000/x, no", "no http://***@db:5000/x, no"),
        ("postgresql://db/zoo?password=secret&user=anna", "postgresql://db/zoo?password=***&user=anna"),
        ("http://db:5000/x and anna@example.com", "http://db:5000/x and anna@example.com"),
        ("sqlite:////home/anna/mlflow.db", "sqlite:////home/anna/mlflow.db"),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert hide_credentials(text) == shown


def test_an_mlflow_server_s_go_to_mlflow_s_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "other")
    assert without_credentials("https://anna:se%40cret@db:5000/x?y=1") == "https://db:5000/x?y=1"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "anna"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "se@cret"


@pytest.mark.parametrize("uri", [URI, "sqlite:////home/anna/mlflow.db", "http://db:5000", "databricks"])
def test_other_uris_stay(uri: str) -> None:
    assert without_credentials(uri) == uri


def test_the_ui_reads_the_uri_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)
    assert "secret" not in " ".join(mlflow_ui_command("127.0.0.1", 5000))
    assert mlflow_ui_environment()["MLFLOW_BACKEND_STORE_URI"] == URI
