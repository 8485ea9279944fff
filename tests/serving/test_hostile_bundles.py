"""The service beside versions that never end to load, or whose manifests are meant for its headers."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from hostile_bundles import endless, rewritten
from server import Server, running
from tiny_zoo import TinyRegistry, write_regression

from serving.bundle_trials import SECONDS, WAITING
from zoo import bundle

pytestmark = pytest.mark.slow

NAMES = {
    "endless": "its check took longer than",
    "header": "manifest.json (run_id) is not as the zoo writes it",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its champions of `endless` and `header` are hostile, and so is version 2 of `good`."""
    registry, scratch = TinyRegistry(tmp_path_factory.mktemp("home")), tmp_path_factory.mktemp("made")
    for name in ("endless", "header", "good", "other"):
        made = write_regression(scratch / name, name=f"linear_regression-{name}")
        registry.promote(made.manifest.model, registry.register(made))
        files = registry.files(made.manifest.model, "1")
        if name == "endless":
            other = bundle.load(endless(scratch / "endless graph", name=made.manifest.model))
            (files / "model.onnx").write_bytes(other.graph_path.read_bytes())
            rewritten(bundle.Bundle(files, *list(vars(other).values())[1:]))
        elif name == "header":
            rewritten(bundle.load(files), run_id="0\r\nSet-Cookie: a=b")
        digest = bundle.digest_of(files)
        registry.client.set_model_version_tag(made.manifest.model, "1", "digest", digest)
    for name in ("good", "other"):
        second = endless(scratch / f"{name} 2", name=f"linear_regression-{name}")
        registry.register(bundle.load(second))
    with running(tmp_path_factory.mktemp("log") / "log", ZOO_HOME=str(registry.home)) as server:
        yield server


def test_others_are_served_and_the_reasons_told(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        assert client.get("/readyz").status_code == 200
        for name, why in NAMES.items():
            refused = client.get(f"/models/linear_regression-{name}")
            assert refused.status_code == 404
            assert why in refused.json()["error"]
        answer = client.post("/regress", json={"model": "good", "rows": [[1, 2]]})
        assert answer.json()["predictions"] == [{"value": 6.0, "unit": "points"}]


def test_one_who_asks_for_it_holds_nobody_up_for_long(server: Server) -> None:
    begun = time.monotonic()

    def ask(name: str) -> httpx.Response:
        return httpx.get(f"{server.url}/v2/models/linear_regression-{name}/versions/2", timeout=60)

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(ask, ["good", "other"]))
    assert [answer.status_code for answer in answers] == [404, 404]
    assert all("its check took longer than" in answer.text for answer in answers)
    assert time.monotonic() - begun < 2 * (WAITING * SECONDS + 5)
    begun = time.monotonic()
    assert ask("good").status_code == 404
    assert time.monotonic() - begun < 2, "the verdict is known"
