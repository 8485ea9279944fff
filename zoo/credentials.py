"""Removes user and password from tracking URIs, because MLflow's errors would print them."""

import os
import re
from urllib.parse import unquote, urlsplit

CREDENTIALS = re.compile(r"(?<=://)[^\s'\"]+(?=@)|(?<=password=)[^&\s'\"]+")


def without_credentials(uri: str) -> str:
    """Returns the URI of an MLflow server without user and password, and sets MLflow's variables for them.

    Returns any other URI unchanged: a database driver reads its password from the URI, and does not print it.
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
