"""The service under load, against the least that could serve the same model.

    python -m tests.benchmarks.serving [--seconds 10] [--rounds 5]

1. Requests a second and p99 of LeNet-5 at 1 and at 16 keep-alive connections, with 1 and with 64 images a
   request, as JSON and as V2's binary tensors, against Starlette and ONNX Runtime behind uvicorn with
   httptools and uvloop (`tests.benchmarks.bare`), which takes the JSON, and checks and counts nothing. In
   turn, for some rounds; printed are medians, and the median of each round's ratio.
2. The same for photographs of 12 megapixels, in forms and in base64; the bare server decodes them with
   Pillow's `draft`, too, in threads.
3. The longest pause of the event loop in each of these cells (`tests.benchmarks.probed`), of the bare server,
   too: a machine that others share has pauses of its own.
4. p99 of LeNet-5 at an easy pace, alone and while VGG16 is asked for batches by eight connections at once.
5. VGG16 asked four times as often as it can answer: what is answered, and how much soon afterwards.

The load comes from other processes: from wrk for the first three, see `tests.benchmarks.wrk` for what it does
not see. The models are trained on a few images, as weights do not change the work.
"""

import base64
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlparse

import httpx
import numpy as np
import tyro
from PIL import ExifTags, Image
from rich.console import Console
from rich.table import Table

from tests.benchmarks import wrk
from tests.benchmarks.load import Load, drive, post
from tests.benchmarks.wrk import Outcome, Sent
from tests.serving.server import environment, free_port, running, wait_for
from training import pipeline, promotion
from training.recipes import recipe_for
from training.recipes.vgg16 import VGG16Recipe

SMALL_MODEL, LARGE_MODEL = "lenet5-mnist-5k", "vgg16-mnist-5k"
WIDTH = 24  # kernels of VGG16's first layers
SIDE = 28
CONNECTIONS = 16
MANY = 64  # images a request
WARM_UP_SECONDS = 1
EASY = 0.02  # seconds between two requests of a connection
BURST = 8  # connections
A_FEW = 5  # images a request of those who ask too often: so many that the load can be four times too much
TIMES_CAPACITY, CROWD = 4, 512  # their connections
REGAINED_WITHIN = 2.0  # seconds


@dataclass(frozen=True)
class Benchmark:
    """How long to measure."""

    seconds: int = 10
    rounds: int = 5


def pixels(images: int) -> np.ndarray:
    """uint8 [N, H, W], the same at every call."""
    return np.random.default_rng(0).integers(0, 256, (images, SIDE, SIDE), dtype=np.uint8)


def as_json(path: str, images: int, model: str = SMALL_MODEL) -> bytes:
    """A request of the typed endpoint."""
    body = json.dumps({"model": model, "pixels": pixels(images).squeeze().tolist()})
    return post(path, body.encode(), "application/json")


def json_pixels(url: str, images: int) -> Sent:
    """A request of the typed endpoint."""
    body = json.dumps({"model": SMALL_MODEL, "pixels": pixels(images).squeeze().tolist()})
    return Sent(url, body.encode(), "application/json")


def tensors(url: str, images: int) -> Sent:
    """V2's request in binary, for an answer in binary."""
    size = images * SIDE * SIDE
    tensor = {
        "name": "image", "datatype": "UINT8", "shape": [images, SIDE, SIDE, 1],
        "parameters": {"binary_data_size": size},
    }  # fmt: skip
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return Sent(
        f"{url}/v2/models/{SMALL_MODEL}/infer",
        head + pixels(images).tobytes(),
        "application/octet-stream",
        (("Inference-Header-Content-Length", str(len(head))),),
    )


def photograph() -> bytes:
    """A JPEG of 12 megapixels and some 3 MB, with an EXIF orientation, as phones make them."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((4000, 3000), Image.Resampling.BICUBIC)
    noise = random.normal(0, 8, (3000, 4000, 3))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)).save(
        file, "JPEG", quality=85, exif=exif
    )
    return file.getvalue()


def photo_in_form(url: str, photo: bytes) -> Sent:
    """A form with the model's name and the file."""
    part = b"--XX\r\nContent-Disposition: form-data; name="
    body = (
        part + b'"model"\r\n\r\n' + SMALL_MODEL.encode() + b"\r\n"
        + part + b'"image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n' + photo + b"\r\n--XX--\r\n"
    )  # fmt: skip
    return Sent(url, body, "multipart/form-data; boundary=XX")


def photo_in_json(url: str, photo: bytes) -> Sent:
    """The file as base64."""
    body = json.dumps({"model": SMALL_MODEL, "image": base64.b64encode(photo).decode()})
    return Sent(url, body.encode(), "application/json")


@contextmanager
def bare(graph: Path) -> Iterator[int]:
    """The bare server's port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.bare", str(graph), str(port)])

    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/"), within=30)
        yield port
    finally:
        process.terminate()
        process.wait(20)


@dataclass(frozen=True)
class Compared:
    """A server, and the same once more with a probe of its event loop."""

    url: str
    probed: str
    pause: Callable[[], float]
    """The longest pause of the probed one's event loop since the last call, in milliseconds."""


@contextmanager
def probed(*graph: str) -> Iterator[tuple[str, Callable[[], float]]]:
    """The service, or the bare server of a graph, with a probe: its address, and what tells the pause."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.probed", str(port), *graph],
        env=environment(ZOO_HOME=os.environ["ZOO_HOME"], ZOO_POLL="1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    def pause() -> float:
        stdin.write("\n")
        stdin.flush()
        return float(stdout.readline())

    try:
        path = "" if graph else "readyz"
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/{path}"), within=60)
        yield f"http://127.0.0.1:{port}", pause
    finally:
        process.terminate()
        process.wait(20)


def answers(url: str) -> bool:
    """Returns True if a server answers and does not say that it is not ready."""
    try:
        return httpx.get(url).status_code in (200, 405)
    except httpx.TransportError:
        return False


def compare(
    title: str, requests: dict[str, tuple[Compared, Callable[[str], Sent]]], settings: Benchmark
) -> None:
    """Prints rates and times of requests in turn, at one connection and at many, and ratios to the first."""
    ratios = ("of bare", "p50 (ms)", "p99", "of bare", "pause", "of bare")
    table = Table("", "connections", "requests/s", *ratios, title=title)
    with tempfile.TemporaryDirectory() as scratch:

        def run(sent: Sent, connections: int, seconds: int = settings.seconds) -> Outcome:
            return wrk.drive(sent, connections, seconds, Path(scratch))

        for connections in (1, CONNECTIONS):
            rows: dict[str, list[tuple[Outcome, float]]] = {name: [] for name in requests}
            for server, make in requests.values():
                run(make(server.url), connections, WARM_UP_SECONDS)
            for _ in range(settings.rounds):
                for name, (server, make) in requests.items():
                    outcome = run(make(server.url), connections)
                    server.pause()
                    run(make(server.probed), connections)
                    rows[name].append((outcome, server.pause()))
            first = next(iter(rows.values()))
            for name, measured in rows.items():
                pairs = list(zip(measured, first, strict=True))
                table.add_row(
                    name,
                    str(connections),
                    f"{statistics.median(o.rate for o, _ in measured):,.1f}",
                    f"{statistics.median(own.rate / base.rate for (own, _), (base, _) in pairs):.2f}",
                    f"{1000 * statistics.median(o.p50 for o, _ in measured):.2f}",
                    f"{1000 * statistics.median(o.p99 for o, _ in measured):.2f}",
                    f"{statistics.median(own.p99 / base.p99 for (own, _), (base, _) in pairs):.2f}",
                    f"{statistics.median(pause for _, pause in measured):.1f}",
                    f"{statistics.median(own / base for (_, own), (_, base) in pairs):.2f}",
                )
    Console(width=110).print(table)


def against_bare(bare: Compared, zoo: Compared, settings: Benchmark) -> None:
    """One image a request, and many; photographs."""
    for images in (1, MANY):
        compare(
            f"LeNet-5, {images} 28 x 28 images a request",
            {
                "bare, JSON": (bare, lambda url, n=images: json_pixels(f"{url}/", n)),
                "the zoo, JSON": (zoo, lambda url, n=images: json_pixels(f"{url}/classify_image", n)),
                "the zoo, V2 in binary": (zoo, lambda url, n=images: tensors(url, n)),
            },
            settings,
        )
    photo = photograph()
    for title, make in (("a form", photo_in_form), ("base64", photo_in_json)):
        compare(
            f"LeNet-5, a photograph of 12 megapixels ({len(photo) / 1e6:.1f} MB) in {title}",
            {
                "bare": (bare, lambda url, make=make: make(f"{url}/photo", photo)),
                "the zoo": (zoo, lambda url, make=make: make(f"{url}/classify_image", photo)),
            },
            settings,
        )


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
    wrk.require_wrk()
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
        graph = promotion.download(trained.model, trained.version) / "model.onnx"
        with (
            bare(graph) as bare_port,
            probed(str(graph)) as probed_bare,
            running(Path(folder) / "server.log", ZOO_HOME=folder, ZOO_POLL="1") as server,
            probed() as probed_zoo,
            ProcessPoolExecutor(2, get_context("spawn")) as pool,
        ):
            port = urlparse(server.url).port
            assert port is not None
            against_bare(
                Compared(f"http://127.0.0.1:{bare_port}", *probed_bare),
                Compared(server.url, *probed_zoo),
                settings,
            )
            beside_a_burst(pool, port, settings)
            overload(pool, port, settings)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
