"""The service under load, against the least that could serve the same model.

    python -m tests.benchmarks.serving [--seconds 3] [--rounds 5]

1. Requests a second and p99 of LeNet-5 at 16 keep-alive connections, against Starlette and ONNX Runtime
   behind uvicorn with httptools and uvloop (`tests.benchmarks.bare`), which checks and counts nothing. Both
   take the same JSON, and the service V2's binary tensors, too; in turn, for some rounds, of which the
   medians are printed, and the median of each round's ratio.
2. p99 of LeNet-5 at an easy pace, alone and while VGG16 is asked for batches by eight connections at once.
3. VGG16 asked four times as often as it can answer: what is answered, and how much soon afterwards.

The load comes from other processes. The models are trained on a few images, as weights do not change the
work.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlparse

import httpx
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from tests.benchmarks.load import Load, Outcome, drive, post
from tests.serving.server import free_port, running, wait_for
from training import pipeline, promotion
from training.recipes import recipe_for
from training.recipes.vgg16 import VGG16Recipe

SMALL_MODEL, LARGE_MODEL = "lenet5-mnist-5k", "vgg16-mnist-5k"
WIDTH = 24  # kernels of VGG16's first layers
SIDE = 28
CONNECTIONS = 16
MANY = 64  # images a request
EASY = 0.02  # seconds between two requests of a connection
BURST = 8  # connections
A_FEW = 5  # images a request of those who ask too often: so many that the load can be four times too much
TIMES_CAPACITY, CROWD = 4, 512  # their connections
REGAINED_WITHIN = 2.0  # seconds


@dataclass(frozen=True)
class Benchmark:
    """How long to measure."""

    seconds: float = 3.0
    rounds: int = 5


def pixels(images: int) -> np.ndarray:
    """uint8 [N, H, W], the same at every call."""
    return np.random.default_rng(0).integers(0, 256, (images, SIDE, SIDE), dtype=np.uint8)


def as_json(path: str, images: int, model: str = SMALL_MODEL) -> bytes:
    """A request of the typed endpoint."""
    body = json.dumps({"model": model, "pixels": pixels(images).squeeze().tolist()})
    return post(path, body.encode(), "application/json")


def as_tensors(images: int) -> bytes:
    """V2's request in binary, for an answer in binary."""
    size = images * SIDE * SIDE
    tensor = {
        "name": "image", "datatype": "UINT8", "shape": [images, SIDE, SIDE, 1],
        "parameters": {"binary_data_size": size},
    }  # fmt: skip
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = f"Inference-Header-Content-Length: {len(head)}"
    path = f"/v2/models/{SMALL_MODEL}/infer"
    return post(path, head + pixels(images).tobytes(), "application/octet-stream", length)


@contextmanager
def bare(graph: Path) -> Iterator[int]:
    """The bare server's port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.bare", str(graph), str(port)])

    def listens() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/").status_code == 405
        except httpx.TransportError:
            return False

    try:
        wait_for(listens, within=30)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def compare(pool: ProcessPoolExecutor, title: str, loads: dict[str, Load], rounds: int) -> None:
    """Prints rates and p99 of some loads in turn, and what they are of the first one's."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in loads}
    for load in loads.values():
        pool.submit(drive, replace(load, seconds=0.5)).result()  # warms up
    for _ in range(rounds):
        for name, load in loads.items():
            outcome = pool.submit(drive, load).result()
            assert set(outcome.statuses) == {200}, outcome.statuses
            outcomes[name].append(outcome)
    table = Table("", "requests/s", "of bare", "p99 (ms)", "of bare", title=title)
    first = next(iter(outcomes.values()))
    for name, rows in outcomes.items():
        pairs = list(zip(rows, first, strict=True))
        table.add_row(
            name,
            f"{statistics.median(o.rate for o in rows):,.0f}",
            f"{statistics.median(own.rate / base.rate for own, base in pairs):.2f}",
            f"{1000 * statistics.median(o.p99 for o in rows):.1f}",
            f"{statistics.median(own.p99 / base.p99 for own, base in pairs):.2f}",
        )
    Console().print(table)


def against_bare(pool: ProcessPoolExecutor, port: int, bare_port: int, settings: Benchmark) -> None:
    """One image a request, and many."""
    for images in (1, MANY):
        requests = {
            "bare, JSON": (bare_port, as_json("/", images)),
            "the zoo, JSON": (port, as_json("/classify_image", images)),
            "the zoo, V2 in binary": (port, as_tensors(images)),
        }
        loads = {
            name: Load(to, request, CONNECTIONS, settings.seconds) for name, (to, request) in requests.items()
        }
        compare(pool, f"LeNet-5, {images} 28 x 28 images a request", loads, settings.rounds)


def beside_a_burst(pool: ProcessPoolExecutor, port: int, settings: Benchmark) -> None:
    """p99 of the small model, alone and beside the large one."""
    easy = Load(port, as_json("/classify_image", 1), CONNECTIONS, settings.seconds, EASY)
    burst = Load(port, as_json("/classify_image", MANY, LARGE_MODEL), BURST, settings.seconds)
    alone, beside, images = [], [], []
    for _ in range(settings.rounds):
        alone.append(pool.submit(drive, easy).result())
        flood = pool.submit(drive, burst)
        beside.append(pool.submit(drive, easy).result())
        images.append(MANY * flood.result().rate)
    table = Table("LeNet-5", "requests/s", "p50 (ms)", "p99 (ms)", title="At an easy pace")
    for name, outcomes in (("alone", alone), ("while VGG16 has a burst", beside)):
        p50 = statistics.median(float(np.median(o.latencies)) for o in outcomes)
        p99 = statistics.median(o.p99 for o in outcomes)
        rate = statistics.median(o.rate for o in outcomes)
        table.add_row(name, f"{rate:.0f}", f"{1000 * p50:.1f}", f"{1000 * p99:.1f}")
    Console().print(table, f"VGG16 meanwhile: {statistics.median(images):.0f} images/s")


def overload(pool: ProcessPoolExecutor, port: int, settings: Benchmark) -> None:
    """What is answered at four times the rate that can be, and afterwards."""
    request = as_json("/classify_image", A_FEW, LARGE_MODEL)
    usual = Load(port, request, CONNECTIONS, settings.seconds)
    before = pool.submit(drive, usual).result()
    period = CROWD / (TIMES_CAPACITY * before.rate)
    during = pool.submit(drive, Load(port, request, CROWD, settings.seconds, period)).result()
    after = pool.submit(drive, replace(usual, seconds=REGAINED_WITHIN)).result()
    table = Table("VGG16", "asked/s", "answered 200/s", "statuses", "p99 of 200 (ms)", title="Overload")
    times = (settings.seconds, settings.seconds, REGAINED_WITHIN)  # without the last answers
    rows = zip(
        ("16 connections", "four times as much", "2 s afterwards"),
        (before, during, after),
        times,
        strict=True,
    )
    for name, o, seconds in rows:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(o.statuses.items()))
        asked = o.statuses.total() / seconds
        table.add_row(name, f"{asked:.0f}", f"{o.rate:.0f}", statuses, f"{1000 * o.p99:.0f}")
    Console().print(table)


def main(settings: Benchmark) -> None:
    """Trains both models, and measures."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZOO_HOME"] = folder
        small, large = recipe_for("lenet5"), recipe_for("vgg16")
        assert isinstance(large, VGG16Recipe)
        large = replace(large, model=replace(large.model, width=WIDTH))
        trained, _ = (
            pipeline.train(replace(recipe, epochs=1, validation_share=0.8, bar=None))
            for recipe in (small, large)
        )
        assert trained is not None
        with (
            bare(promotion.download(trained.model, trained.version) / "model.onnx") as bare_port,
            running(Path(folder) / "server.log", ZOO_HOME=folder) as server,
            ProcessPoolExecutor(2, get_context("spawn")) as pool,
        ):
            port = urlparse(server.url).port
            assert port is not None
            against_bare(pool, port, bare_port, settings)
            beside_a_burst(pool, port, settings)
            overload(pool, port, settings)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
