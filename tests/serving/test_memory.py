"""The memory of requests in flight has a bound, and what is beyond it is refused."""

import base64
import gc
import io
import json
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image
from server import Server, running
from tiny_zoo import write_images

from serving.context import RequestContext
from serving.json_size import json_size
from serving.memory import MemoryBudget
from serving.settings import LEAST_MEMORY
from serving.turns import DeadlineExceeded, Overloaded
from zoo.errors import InputTooLarge

MODEL = "lenet5-mnist"
CLIENTS = 64
SIZE = 30_000_000
BESIDE = 200_000_000
"""Bytes that the process may take for everything but bodies and what is decoded of them."""
STAYS = 150_000_000
"""Bytes that may stay of pictures of 144 MB each."""


def test_what_is_late_is_not_decoded() -> None:
    RequestContext(time.monotonic() + 60).reserve_decoded(0)
    with pytest.raises(DeadlineExceeded):
        RequestContext(time.monotonic()).reserve_decoded(0)


def test_a_budget() -> None:
    budget = MemoryBudget(100, lambda: 2.5)
    first, second = RequestContext(budget=budget), RequestContext(budget=budget)
    first.reserve(60)
    second.reserve(40)
    with pytest.raises(Overloaded) as refused:
        second.reserve(1)
    assert refused.value.retry_after == 3
    assert (budget.reserved, budget.refused) == (100, 1)
    with pytest.raises(InputTooLarge):
        second.reserve(101)
    with pytest.raises(InputTooLarge):  # with its 40 it exceeds the limit, whatever others give back
        second.reserve(61)
    first.free()
    first.free()
    second.reserve(60)
    second.free()
    assert budget.reserved == 0


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"rows": [[i + 0.5, i * 7.25] for i in range(50_000)]}),
        json.dumps([[]] * 200_000),
        json.dumps([{}] * 200_000),
        json.dumps([1 << 60] * 100_000),
        json.dumps(["a" * 50] * 20_000),
        json.dumps([{"a": i} for i in range(20_000)]),
        json.dumps([[i] for i in range(20_000)]),
        json.dumps(["ä" * 50, "€" * 50, "\U0001f600" * 50] * 5_000, ensure_ascii=False),
    ],
)
def test_parsed_json_takes_no_more_than_is_expected(text: str) -> None:
    gc.collect()
    tracemalloc.start()
    value = json.loads(text)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert value
    assert taken <= json_size(text.encode()).parsed_bytes < 6 * taken


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with the least memory that it may have."""
    folder: Path = tmp_path_factory.mktemp("bounded")
    write_images(folder / "bundles" / "images")
    variables = {"ZOO_BUNDLES": str(folder / "bundles"), "ZOO_MEMORY": str(LEAST_MEMORY)}
    with running(folder / "server.log", **variables) as server:
        yield server


def peak_while(server: Server, stop: threading.Event) -> int:
    """The most that the service holds in memory until it is stopped."""
    (worker,) = psutil.Process(server.pid).children() or [psutil.Process(server.pid)]
    peak = 0
    while not stop.is_set():
        peak = max(peak, worker.memory_info().rss)
        time.sleep(0.005)
    return peak


@pytest.mark.slow
def test_many_large_uploads_at_once(bounded: Server) -> None:
    file = io.BytesIO()
    Image.new("L", (28, 28)).save(file, "PNG")
    image = base64.b64encode(file.getvalue() + bytes(SIZE * 3 // 4)).decode()
    body = json.dumps({"model": MODEL, "image": image}).encode()
    stop, together = threading.Event(), threading.Barrier(CLIENTS)

    def upload(_: int) -> httpx.Response:
        with httpx.Client(base_url=bounded.url, timeout=120) as client:
            together.wait()
            return client.post("/classify_image", content=body, headers={"Content-Type": "application/json"})

    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        before = peak_while(bounded, _set())
        watching = pool.submit(peak_while, bounded, stop)
        answers = list(pool.map(upload, range(CLIENTS)))
        stop.set()
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() == {200, 503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 503)
    assert watching.result() - before < LEAST_MEMORY + BESIDE
    page = httpx.get(f"{bounded.url}/metrics").text
    assert "zoo_memory_bytes 0.0" in page
    assert f"zoo_memory_refused_total {statuses[503]:.1f}" in page
    assert httpx.post(f"{bounded.url}/classify_image", content=body).status_code == 200


def _set() -> threading.Event:
    """An event that has come: the peak is what there is now."""
    event = threading.Event()
    threading.Timer(0.1, event.set).start()
    return event


def test_pictures_are_decoded_within_the_budget(bounded: Server) -> None:
    """Eight at once of 36 million pixels each, in files of 100 kB: each is answered, or refused in time."""
    file = io.BytesIO()
    Image.new("RGB", (6000, 6000), "red").save(file, "PNG")
    body = json.dumps({"model": MODEL, "image": base64.b64encode(file.getvalue()).decode()}).encode()

    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{bounded.url}/classify_image", content=body, timeout=60)

    stop = threading.Event()
    with ThreadPoolExecutor(9) as pool:
        before = peak_while(bounded, _set())
        watching = pool.submit(peak_while, bounded, stop)
        answers = list(pool.map(ask, range(8)))
        stop.set()
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert any(answer.status_code == 200 for answer in answers)
    assert watching.result() - before < LEAST_MEMORY + BESIDE
    assert peak_while(bounded, _set()) - before < STAYS
