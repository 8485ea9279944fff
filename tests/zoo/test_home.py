"""Who may enter the home."""

import stat
from pathlib import Path

import pytest

from zoo.home import download_directory, make_directory


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_home_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "deep" / "home"
    monkeypatch.setenv("ZOO_HOME", str(home))
    monkeypatch.delenv("ZOO_DATA", raising=False)
    assert download_directory() == home / "data"
    assert (home / "data").is_dir()
    assert permissions(home) == 0o700


def test_a_home_that_is_there_keeps_its_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o770)
    monkeypatch.setenv("ZOO_HOME", str(home))
    make_directory(home / "cache")
    assert permissions(home) == 0o770


def test_a_directory_elsewhere_makes_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    make_directory(tmp_path / "elsewhere" / "cache")
    assert (tmp_path / "elsewhere" / "cache").is_dir()
    assert not (tmp_path / "home").exists()
