"""A client that leaves while its request waits: nothing is computed for it, and it counts as unanswered."""

import asyncio
import json
import threading
from functools import partial
from pathlib import Path

import pytest
import uvicorn
from contexts import due_in
from starlette.types import Receive, Scope, Send
from tiny_zoo import write_regression

from serving.application import Application
from serving.settings import Settings
from tests.benchmarks.load import post
from zoo.cpu_cores import cpu_cores
from zoo.tasks import Arrays

MODEL = "linear_regression-diabetes"
SOON = 5.0
ROWS = {"model": MODEL, "rows": [[1, 2]]}
TENSOR = {"name": "features", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}


async def no_page(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("dialect", "path", "body"),
    [("zoo", "/regress", ROWS), ("v2", f"/v2/models/{MODEL}/infer", {"inputs": [TENSOR]})],
)
def test_nothing_is_computed(tmp_path: Path, dialect: str, path: str, body: object) -> None:
    write_regression(tmp_path / "made")
    application = Application(no_page, Settings(bundles=tmp_path))
    application._follower._step()
    loaded = application._follower.catalogue.find(MODEL).loaded
    computed: list[Arrays] = []
    object.__setattr__(loaded, "row_seconds", 1.0)  # not to be run in place
    loaded.graph._run = lambda _, inputs: computed.append(inputs)

    async def until(condition: partial) -> None:
        async with asyncio.timeout(SOON):
            while not condition():
                await asyncio.sleep(0.005)

    async def scenario() -> None:
        server = uvicorn.Server(uvicorn.Config(application, port=0, lifespan="off", log_level="warning"))
        serving = asyncio.create_task(server.serve())
        await until(partial(getattr, server, "started"))
        port = server.servers[0].sockets[0].getsockname()[1]
        engine, release = application._engine, threading.Event()
        busy = [
            asyncio.create_task(engine.turns.offload(partial(release.wait, SOON), due_in(SOON)))
            for _ in range(cpu_cores())
        ]
        await until(lambda: engine.turns._busy == len(busy))
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(path, json.dumps(body).encode(), "application/json"))
        await until(lambda: loaded in engine.turns._lanes)
        writer.close()
        await until(lambda: loaded not in engine.turns._lanes)
        release.set()
        await asyncio.gather(*busy)
        await until(lambda: application._drain.in_flight == 0)
        server.should_exit = True
        await serving

    asyncio.run(scenario())
    assert computed == []
    tally = application.measurements._tallies[MODEL, "1"]
    assert tally.requests == {(dialect, "unanswered"): 1}
    application._engine.close()
