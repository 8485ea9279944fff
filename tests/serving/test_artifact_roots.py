"""Where files of versions may lie: the store's own folders, and what the operator lists."""

from pathlib import Path

import pytest
from tiny_zoo import TinyRegistry, record_of, write_regression

from serving.artifact_roots import is_within, own_roots
from serving.registry import Registry, _require_size
from serving.source import Version
from zoo.errors import BundleError

SERVER = "http://mlflow:5000"


@pytest.mark.parametrize(
    ("uri", "roots", "within"),
    [
        ("mlflow-artifacts:/1/a/artifacts", own_roots(SERVER, "mlflow-artifacts:/0"), True),
        ("mlflow-artifacts://mlflow:5000/1/a", own_roots(SERVER, None), True),
        ("mlflow-artifacts://other:5000/1/a", own_roots(SERVER, None), False),
        ("mlflow-artifacts:/1/../../a", own_roots(SERVER, None), False),
        ("mlflow-artifacts:/1/%2e%2e/a", own_roots(SERVER, None), False),
        ("mlflow-artifacts:/1/a?x=y", own_roots(SERVER, None), False),
        ("s3://bucket/mlflow/1/a", own_roots(SERVER, "s3://bucket/mlflow/0"), True),
        ("s3://bucket/other/1/a", own_roots(SERVER, "s3://bucket/mlflow/0"), False),
        ("s3://bucket/mlflow-other/1", own_roots(SERVER, "s3://bucket/mlflow/0"), False),
        ("s3://bucket/1/a", own_roots(SERVER, "s3://bucket/0"), True),
        ("s3://bucket2/1/a", own_roots(SERVER, "s3://bucket/0"), False),
        ("http://169.254.169.254/latest", own_roots(SERVER, "mlflow-artifacts:/0"), False),
        ("file:///etc", own_roots(SERVER, "/0"), False),
        ("file:///etc", own_roots(SERVER, "file:///0"), False),
        ("file://host/srv/models/a", ["/srv/models"], False),
        ("/srv/models/a", ["/srv/models"], True),
        ("file:///srv/models/a%20b", ["file:///srv/models"], True),
        ("/srv/models/../a", ["/srv/models"], False),
        ("/srv/models2", ["/srv/models"], False),
        ("s3://bucket/zoo/a", ["/srv/models", "s3://bucket/zoo"], True),
        ("ftp://host/a", ["s3://bucket"], False),
    ],
)
def test_addresses(uri: str, roots: list[str], within: bool) -> None:
    assert is_within(uri, roots) is within


def test_a_link_out_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    assert not is_within(str(tmp_path / "root" / "link"), [str(tmp_path / "root")])


def test_the_roots_of_a_local_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    roots = own_roots("sqlite:////srv/zoo/mlflow.db", "/somewhere/mlruns/0")
    assert roots == [str(tmp_path / "home" / "artifacts"), "/srv/zoo/artifacts", "/somewhere/mlruns"]


def test_a_version_elsewhere(tmp_path: Path) -> None:
    tiny, made = TinyRegistry(tmp_path / "home"), write_regression(tmp_path / "elsewhere" / "made")
    name = made.manifest.model
    tiny.client.create_registered_model(name)
    tiny.client.create_model_version(name, str(made.directory), tags=record_of(made).to_tags())
    tiny.register(write_regression(tmp_path / "inside", bias=2.0))

    def directory(number: str, *sources: str) -> Path:
        registry = Registry(tiny.uri, False, sources)
        (version,) = (v for v in registry.read().versions[name] if v.number == number)
        with registry.bundle(version) as found:
            return found

    with pytest.raises(BundleError, match="outside ZOO_SOURCES; was its folder moved") as refused:
        directory("1")
    assert str(tmp_path) not in str(refused.value)
    assert directory("1", str(tmp_path / "elsewhere")) == made.directory
    assert directory("2").is_relative_to(tiny.home / "artifacts")


def test_sizes_are_looked_at_before_files_are_fetched() -> None:
    listed = {"manifest.json": 100, "model.onnx": 1 << 40, "card.md": None}
    _require_size(listed, ["manifest.json"], 1000)
    with pytest.raises(BundleError, match="1099511627776 bytes together; at most 1000"):
        _require_size(listed, ["model.onnx"], 1000)
    for name in ("card.md", "task.json"):
        with pytest.raises(BundleError, match=f"does not list {name}"):
            _require_size(listed, ["manifest.json", name], 1000)


@pytest.mark.parametrize("digest", ["..", "/etc", "a" * 63, "A" * 64, ""])
def test_a_digest_that_is_the_name_of_another_folder(tmp_path: Path, digest: str) -> None:
    tiny, made = TinyRegistry(tmp_path / "home"), write_regression(tmp_path / "made")
    number = tiny.register(made)
    tiny.client.set_model_version_tag(made.manifest.model, number, "digest", digest)
    (version,) = Registry(tiny.uri, False).read().versions[made.manifest.model]
    assert version == Version(made.manifest.model, number, (), False, "its tags are not complete", {}, None)
