"""User and password in a tracking URI, which MLflow's errors would print."""

import os
import re
from urllib.parse import unquote, urlsplit

CREDENTIALS = re.compile(r"(?<=://)[^\s'\"]+(?=@)|(?<=password=)[^&\s'\"]+")


def without_credentials(uri: str) -> str:
    """Returns the URI of an MLflow server without user and password, which go to MLflow's own variables.

    Returns any other URI as it is: a database's driver reads its password there, and does not print it.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def hide_credentials(text: str) -> str:
    """Returns a text with *** in place of user and password in each URI."""
    return CREDENTIALS.sub("***", text)
