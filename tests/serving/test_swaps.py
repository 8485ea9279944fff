"""A hundred promotions under load: every answer comes, is one version's, and the new version soon answers."""

import threading
from pathlib import Path
from statistics import median

import httpx
import pytest
from server import PROMISE, Server, running, wait_for
from tiny_zoo import TinyRegistry, write_regression

NAME = "linear_regression-energy"
SWAPS, CLIENTS = 100, 8
BIAS = {"1": 0.0, "2": 100.0, "3": 200.0}


class Load(threading.Thread):
    """A client that asks again and again; each answer's values are those of the version that it names."""

    def __init__(self, server: Server, stop: threading.Event) -> None:
        super().__init__()
        self.answers = 0
        self.failures: list[str] = []
        self._server = server
        self._stop_asking = stop

    def run(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=30) as client:
            while not self._stop_asking.is_set():
                response = client.post("/regress", json={"model": NAME, "rows": [[0, 0]] * 3})
                self.answers += 1
                body = response.json()
                values = [p["value"] for p in body.get("predictions", ())]
                if response.status_code != 200 or values != [BIAS[body["lineage"]["version"]]] * 3:
                    self.failures.append(response.text)


@pytest.mark.soak
def test_a_hundred_swaps_under_load(tmp_path: Path) -> None:
    registry = TinyRegistry(tmp_path / "home")
    for number, bias in BIAS.items():
        made = write_regression(tmp_path / number, bias=bias, name=NAME)
        assert number == registry.register(made)
    registry.promote(NAME, "1")
    with running(tmp_path / "log", ZOO_HOME=str(registry.home), ZOO_POLL="1") as server:
        stop = threading.Event()
        clients = [Load(server, stop) for _ in range(CLIENTS)]
        for client in clients:
            client.start()

        def version() -> str:
            return str(httpx.get(f"{server.url}/models/{NAME}").json()["lineage"]["version"])

        try:
            seconds = []
            for swap in range(SWAPS):
                number = str(1 + (swap + 1) % len(BIAS))
                registry.promote(NAME, number)
                seconds.append(wait_for(lambda number=number: version() == number))
        finally:
            stop.set()
            for client in clients:
                client.join()
    answers, failures = sum(c.answers for c in clients), [f for c in clients for f in c.failures]
    print(f"{answers:,} answers; a new version after {median(seconds):.1f} s, at most {max(seconds):.1f} s")
    assert failures == []
    assert answers > SWAPS
    assert max(seconds) < PROMISE
