"""Several service processes behind one port, which count as one."""

import signal
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from server import Server, running, wait_for
from sockets import ports, unix_sockets
from tiny_zoo import TinyRegistry, write_regression, write_writer

from zoo.cli import main

pytestmark = pytest.mark.slow

MODEL = "linear_regression-diabetes"
BODY = {"model": MODEL, "rows": [[1, 2], [3, 4]]}
WORKERS = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("workers")
    write_regression(folder / "bundles" / "regression")
    write_writer(folder / "bundles" / "writer", slow=600)
    variables = {"ZOO_BUNDLES": str(folder / "bundles"), "ZOO_WORKERS": str(WORKERS), "TMPDIR": str(folder)}
    with running(folder / "log", **variables) as server:
        wait_for(lambda: len(list(folder.glob("zoo-workers-*/*.sock"))) == WORKERS, within=30)
        wait_for(lambda: all(ready(server) for _ in range(20)), within=30)
        yield server
    assert not list(folder.glob("zoo-workers-*")), "nothing is left behind"


def ready(server: Server) -> bool:
    return httpx.get(f"{server.url}/readyz").status_code == 200  # on a connection of its own: of any worker


def workers(server: Server) -> list[psutil.Process]:
    children = psutil.Process(server.pid).children()
    living = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in living if "worker.service" in str(child.cmdline())]


def measured(server: Server, name: str, **labels: str) -> float:
    page = httpx.get(f"{server.url}/metrics").text
    samples = [s for family in text_string_to_metric_families(page) for s in family.samples if s.name == name]
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


def test_they_listen_on_one_port_and_on_sockets_of_their_own_user(server: Server) -> None:
    assert ports(server.pid) == {httpx.URL(server.url).port}
    sockets = [Path(name) for name in unix_sockets(server.pid)]
    assert len(sockets) == WORKERS
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in sockets} == {0o700}


def test_one_that_is_killed_is_replaced(server: Server) -> None:
    killed = workers(server)[0]
    killed.kill()
    wait_for(lambda: len(workers(server)) == WORKERS and killed not in workers(server), within=30)
    wait_for(lambda: len(unix_sockets(server.pid)) == WORKERS, within=30)
    wait_for(lambda: all(ready(server) for _ in range(20)), within=30)


def test_all_of_them_answer_and_their_counts_add_up(server: Server) -> None:
    address = httpx.URL(server.url)
    assert len(workers(server)) == WORKERS
    clients = [httpx.Client(base_url=server.url) for _ in range(8 * WORKERS)]
    asked = 0

    def connected() -> set[int]:
        """Workers that hold a connection of ours."""
        return {
            worker.pid
            for worker in workers(server)
            for connection in worker.net_connections("tcp")
            if connection.status == "ESTABLISHED" and connection.laddr.port == address.port
        }

    def ask_all() -> bool:
        nonlocal asked
        with ThreadPoolExecutor(len(clients)) as threads:
            answers = list(threads.map(lambda client: client.post("/regress", json=BODY), clients))
        assert {answer.status_code for answer in answers} == {200}
        asked += len(answers)
        return len(connected()) == WORKERS

    wait_for(ask_all, within=30)
    for _ in range(10):  # whichever answers, it knows of all
        assert measured(server, "zoo_requests_total", model=MODEL, outcome="2xx") == asked
        assert measured(server, "zoo_rows_total", model=MODEL) == 2 * asked
        assert measured(server, "zoo_request_seconds_count", model=MODEL) == asked
        statistics = httpx.get(f"{server.url}/v2/models/{MODEL}/stats").json()["model_stats"][0]
        assert statistics["inference_stats"]["success"]["count"] == asked
        assert statistics["inference_count"] == 2 * asked
    for client in clients:
        client.close()


def test_what_they_counted_of_a_challenger_adds_up(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, folder = TinyRegistry(tmp_path_factory.mktemp("home")), tmp_path_factory.mktemp("challenge")
    for number in ("1", "2"):
        assert number == registry.register(write_regression(folder / number))
    registry.promote(MODEL, "1")
    monkeypatch.setenv("ZOO_HOME", str(registry.home))
    main(["challenger", MODEL, "2", "--share", "50%"])
    settings = {"ZOO_HOME": str(registry.home), "ZOO_WORKERS": str(WORKERS), "TMPDIR": str(folder)}
    with running(folder / "log", **settings) as server:
        wait_for(lambda: all(measured(server, "zoo_challenger_share") == 0.5 for _ in range(20)), within=30)
        for key in range(40):  # each on a connection of its own: to any worker
            header = {"X-Request-Key": str(key)}
            assert httpx.post(f"{server.url}/regress", json=BODY, headers=header).status_code == 200
        counted = partial(measured, server, "zoo_challenger_requests_total", outcome="2xx")
        wait_for(lambda: counted() == 40)  # an answer is counted once it is sent
        assert {counted() for _ in range(10)} == {40}


def test_process_metrics_of_whichever_answers_are_not_shown(server: Server) -> None:
    assert "process_resident_memory_bytes" not in httpx.get(f"{server.url}/metrics").text


def test_the_end_of_all_of_them(server: Server) -> None:
    """The text that each is writing is finished; then the supervisor ends with exit code 0."""
    answers: list[httpx.Response] = []
    body = {"model": "rnn-letters", "prompt": "abc", "max_tokens": 300}

    def write() -> None:
        answers.append(httpx.post(f"{server.url}/generate_text", json=body, timeout=60))

    writing = [threading.Thread(target=write) for _ in range(6)]
    for thread in writing:
        thread.start()
    busy = {"model": "rnn-letters", "state": "busy"}
    wait_for(lambda: measured(server, "zoo_generation_slots", **busy) == len(writing), within=30)
    processes = workers(server)
    supervisor = psutil.Process(server.pid)
    supervisor.send_signal(signal.SIGTERM)
    for thread in writing:
        thread.join(60)
    assert [answer.status_code for answer in answers] == [200] * len(writing)
    assert supervisor.wait(30) == 0
    assert not any(process.is_running() for process in processes)
