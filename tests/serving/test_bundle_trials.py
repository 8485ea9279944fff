"""Bundles whose graphs never end, or want more memory than there is: tried elsewhere, refused, remembered."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostile_bundles import endless, greedy
from requirement import require
from tiny_zoo import write_regression

from serving import bundle_trials
from serving.engine import Engine
from zoo.bundle import digest_of
from zoo.errors import BundleError, NotTried

SECONDS = 0.6  # of processor time for a trial; told as 1 s


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_trials, "SECONDS", SECONDS)
    monkeypatch.setattr(bundle_trials, "WAITING", 20)  # on a machine that runs other tests


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Engine]]:
    """Starts an engine, as the service is started again and again with the same cache."""
    engines: list[Engine] = []

    def engine() -> Engine:
        engines.append(Engine("cpu", 1, 1, 1, verdicts=tmp_path / "verdicts"))
        return engines[-1]

    yield engine
    for each in engines:
        each.close()


def process(engine: Engine) -> object:
    return engine.trials._process


def test_a_graph_without_end(
    start: Callable[[], Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = endless(tmp_path / "endless")
    engine = start()
    with pytest.raises(BundleError, match="its check took longer than 1 s"):
        engine.load(directory)
    other = write_regression(tmp_path / "other", bias=3.0)
    assert engine.load(other.directory).bundle.digest == other.digest, "others are loaded after it"
    again = start()
    with pytest.raises(BundleError, match="longer than 1 s"):
        again.load(directory)
    assert process(again) is None, "the verdict was kept"
    later = time.time() + 70
    monkeypatch.setattr(time, "time", lambda: later)
    once_more = start()
    with pytest.raises(BundleError, match="longer than 1 s"):
        once_more.load(directory)
    verdict = once_more.trials.verdicts.find(digest_of(directory))
    assert verdict is not None
    assert (verdict.failures, verdict.retry_at) == (2, later + 120)


def test_a_graph_that_has_an_end_only_when_it_is_tried(
    start: Callable[[], Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As graphs with random numbers may be: the service itself ends the run."""
    engine, directory = start(), endless(tmp_path / "endless")
    monkeypatch.setattr(bundle_trials, "WAITING", 1)
    engine.trials.verdicts.passed(digest_of(directory))
    with pytest.raises(BundleError, match="the graph does not run") as refused:
        engine.load(directory)
    assert "terminate" in str(refused.value.__cause__)


@pytest.mark.parametrize("folded", [True, False])
def test_a_graph_that_wants_all_memory(start: Callable[[], Engine], tmp_path: Path, folded: bool) -> None:
    engine = start()
    with pytest.raises(BundleError, match=r"needs more than .* MiB of memory"):
        engine.load(greedy(tmp_path / "greedy", folded))


def test_a_bundle_that_passed_is_not_tried_again(start: Callable[[], Engine], tmp_path: Path) -> None:
    made, engine = write_regression(tmp_path / "made"), start()
    engine.load(made.directory)
    assert process(engine) is not None
    engine.trials.rest()
    assert process(engine) is None
    again = start()
    assert again.load(made.directory).bundle.digest == made.digest
    assert process(again) is None


def test_one_process_tries_several_bundles(start: Callable[[], Engine], tmp_path: Path) -> None:
    engine, processes = start(), set()
    for bias in (1.0, 2.0, 3.0):
        engine.load(write_regression(tmp_path / str(bias), bias=bias).directory)
        processes.add(process(engine))
    assert len(processes) == 1


def test_a_bundle_that_is_repaired_is_loaded(start: Callable[[], Engine], tmp_path: Path) -> None:
    made, engine = write_regression(tmp_path / "made"), start()
    graph = made.graph_path.read_bytes()
    made.graph_path.write_bytes(b"\0")
    with pytest.raises(BundleError, match=r"model\.onnx is not the file"):
        engine.load(made.directory)
    made.graph_path.write_bytes(graph)
    assert engine.load(made.directory).bundle.digest == made.digest


def test_the_process_knows_no_keys(
    start: Callable[[], Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(Path("/proc").is_dir(), "Linux, which shows the variables of a process")
    for name in ("ZOO_API_KEYS", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "secret")
    engine = start()
    engine.load(write_regression(tmp_path / "made").directory)
    variables = Path(f"/proc/{engine.trials._process._process.pid}/environ").read_bytes()
    assert b"secret" not in variables
    assert b"PATH=" in variables


def test_the_end_of_the_service_does_not_wait_for_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_trials, "SECONDS", 100.0)
    engine, directory = Engine("cpu", 1, 1, 1), endless(tmp_path / "endless")
    refused: list[Exception] = []

    def load() -> None:
        try:
            engine.load(directory)
        except NotTried as error:
            refused.append(error)

    loading = threading.Thread(target=load)
    loading.start()
    while process(engine) is None:
        time.sleep(0.01)
    engine.close()
    loading.join(20)
    assert [str(error) for error in refused] == ["the service is stopping"]


def test_a_cache_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "verdicts").write_text("a file where the directory should be")
    engine = Engine("cpu", 1, 1, 1, verdicts=tmp_path / "verdicts")
    engine.load(write_regression(tmp_path / "made").directory)
    engine.close()
    assert "cannot keep the verdict" in caplog.text


def test_what_is_kept_of_bundles_that_are_gone(start: Callable[[], Engine], tmp_path: Path) -> None:
    engine = start()
    digests = [
        engine.load(write_regression(tmp_path / str(b), bias=b).directory).bundle.digest for b in (1.0, 2.0)
    ]
    engine.trials.verdicts.prune(digests[:1])
    (folder,) = (tmp_path / "verdicts").iterdir()
    assert [path.stem for path in folder.iterdir()] == digests[:1]
