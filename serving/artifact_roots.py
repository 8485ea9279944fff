"""Checks that a version's files lie below allowed roots, each a URI or a path."""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import url2pathname

from zoo.home import home

SQLITE = "sqlite:///"


def own_roots(tracking_uri: str, default_location: str | None) -> list[str]:
    """Returns the artifact roots of a tracking store, from its URI and its default experiment's location.

    MLflow creates that experiment together with the store, below the root that it was started with, and no
    request to MLflow can move it.
    """
    roots = [str(home() / "artifacts")]
    if tracking_uri.startswith(SQLITE):
        roots.append(str(Path(tracking_uri.removeprefix(SQLITE)).absolute().parent / "artifacts"))
    elif tracking_uri.startswith(("http://", "https://")):
        server = urlsplit(tracking_uri).netloc.rpartition("@")[2]
        roots += ["mlflow-artifacts:/", f"mlflow-artifacts://{server}/"]
    if default_location is not None:
        root, _, experiment = default_location.rstrip("/").rpartition("/")
        if experiment and urlsplit(root).path.strip("/") + urlsplit(root).netloc:  # not a whole disk
            roots.append(root)
    return roots


def is_within(uri: str, roots: Iterable[str]) -> bool:
    """Returns True if a URI lies below one of the roots; follows symbolic links."""
    path = local_path(uri)
    if path is not None:
        folders = (folder.resolve() for root in roots if (folder := local_path(root)) is not None)
        return any(path.resolve().is_relative_to(folder) for folder in folders)
    address = urlsplit(uri)
    if address.query or address.fragment or ".." in unquote(address.path).split("/"):
        return False
    return any(_contains(urlsplit(root), address) for root in roots)


def local_path(uri: str) -> Path | None:
    """Returns the local path that a URI refers to; None if it is not on this machine."""
    address = urlsplit(uri)
    if address.scheme == "file" and address.netloc in ("", "localhost"):
        return Path(url2pathname(address.path))
    return Path(uri) if len(address.scheme) < 2 else None  # a single letter is a Windows drive


def _contains(root: SplitResult, address: SplitResult) -> bool:
    folder = f"{root.path.rstrip('/')}/"
    same_store = (root.scheme, root.netloc) == (address.scheme, address.netloc)
    return bool(root.scheme) and same_store and f"{address.path}/".startswith(folder)
