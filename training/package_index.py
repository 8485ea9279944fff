"""Download of a Python package's file without running any of its code.

`pip download` would ask a source package for its metadata, which runs the package's code. So the file is
looked up by the Simple Repository API (PEP 503), in the indexes that pip is configured to use.
"""

import ast
import hashlib
import re
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit
from urllib.request import Request, url2pathname, urlopen

from zoo.errors import NotFound

PYPI = "https://pypi.org/simple"
SECONDS = 60  # timeout without any data
MOST_PAGE_BYTES = 64 << 20
MOST_FILE_BYTES = 2 << 30
CHUNK_BYTES = 1 << 20


def fetch_package(package: str, sha256: str, folder: Path) -> Path:
    """Downloads a file of a package, pinned as `NAME==VERSION` and by its SHA-256, into a folder.

    Raises `NotFound`, with the reason, if there is no such file.
    """
    settings = _pip_settings()
    problems: list[str] = []
    for url in _files(package, settings, problems):
        address, fragment = urldefrag(url)
        path = folder / Path(unquote(urlsplit(address).path)).name
        if fragment.startswith("sha256=") and fragment != f"sha256={sha256}":
            problems.append(f"{path.name} has another HASH, {fragment}")
            continue
        try:
            with _opened(address, settings) as file:
                found = _copy(file, path)
        except OSError as error:
            problems.append(f"{path.name}: {error}")
            continue
        if found == sha256:
            return path
        path.unlink()
        problems.append(f"{path.name} has another HASH, sha256={found}")
    raise NotFound("; ".join(problems) or f"No matching file of {package} where pip looks for packages")


def _pip_settings() -> dict[str, str]:
    """Returns the settings of `pip download`, from pip's configuration files and environment variables."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sections: dict[str, dict[str, str]] = {"global": {}, "download": {}, ":env:": {}}  # the last one wins
    for line in done.stdout.splitlines():
        place, _, value = line.partition("=")
        section, _, name = place.partition(".")
        if section in sections:
            sections[section][name] = str(ast.literal_eval(value))
    return {name: value for section in sections.values() for name, value in section.items()}


def _files(package: str, settings: dict[str, str], problems: list[str]) -> Iterator[str]:
    """Yields URLs of the package's files; their fragments are the digests that the index states."""
    name, _, version = package.partition("==")
    wanted = f"{_normal(name)}-{_normal(version)}-"
    pages = settings.get("find-links", "").split()
    if settings.get("no-index", "").lower() not in ("1", "true", "yes", "on"):
        indexes = [settings.get("index-url", PYPI), *settings.get("extra-index-url", "").split()]
        pages = [f"{index.rstrip('/')}/{_normal(name)}/" for index in indexes] + pages
    for page in pages:
        try:
            links = _links(page, settings)
        except OSError as error:
            problems.append(f"{urlsplit(page).hostname or page}: {error}")
            continue
        for link in links:
            file = Path(unquote(urlsplit(link).path)).name
            if _normal(file).startswith(wanted):
                yield link


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _links(page: str, settings: dict[str, str]) -> list[str]:
    """Returns the links of a page, or the files of a folder."""
    if urlsplit(page).scheme in ("", "file"):
        folder = Path(url2pathname(urlsplit(page).path)).expanduser().absolute()
        if folder.is_dir() and not (folder / "index.html").exists():
            return [path.as_uri() for path in folder.iterdir()]
        file = folder / "index.html" if folder.is_dir() else folder
        page, content = file.as_uri(), file.read_bytes()
    else:
        with _opened(page, settings) as answer:
            content = answer.read(MOST_PAGE_BYTES)
    anchors = _Anchors()
    anchors.feed(content.decode("utf-8", "replace"))
    return [urljoin(page, target) for target in anchors.targets]


def _opened(url: str, settings: dict[str, str]) -> IO[bytes]:
    address = urlsplit(url)
    headers = {"Accept": "text/html, */*;q=0.1"}
    if address.scheme not in ("file", "http", "https"):
        raise OSError(f"{address.scheme} is no scheme of a package index")
    if address.username is not None:
        user = f"{unquote(address.username)}:{unquote(address.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
        address = address._replace(netloc=address.netloc.rpartition("@")[2])
    certificates = ssl.create_default_context(cafile=settings.get("cert"))
    request = Request(urlunsplit(address), headers=headers)
    opened: IO[bytes] = urlopen(request, timeout=SECONDS, context=certificates)
    return opened


def _copy(file: IO[bytes], path: Path) -> str:
    """Copies a file to a path; returns the SHA-256 of its content."""
    digest, copied = hashlib.sha256(), 0
    with path.open("wb") as target:
        while chunk := file.read(CHUNK_BYTES):
            copied += len(chunk)
            if copied > MOST_FILE_BYTES:
                raise OSError(f"more than {MOST_FILE_BYTES} bytes")
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest()
