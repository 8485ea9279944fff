"""Counts of a version in the form of Triton's statistics, and who is asked for them."""

import asyncio
from pathlib import Path

import httpx
from tiny_zoo import write_regression

from serving.bundles_folder import BundlesFolder
from serving.child_process import ChildProcesses
from serving.drain import Drain
from serving.engine import Engine
from serving.exchange import Exchange
from serving.follower import Follower
from serving.inference import Inference
from serving.measurements import Duration, Statistics
from serving.on_demand import OnDemand
from serving.protocols.v2.protocol import V2Protocol
from serving.protocols.v2.statistics import rendered
from serving.readiness import Readiness

COUNTS = Statistics(
    success=Duration(5, 50),
    fail=Duration(1, 7),
    queue=Duration(5, 3),
    compute_input=Duration(5, 2),
    compute_infer=Duration(5, 30),
    compute_output=Duration(5, 1),
    inference_count=12,
    execution_count=6,
    last_inference=1_700_000_000_000,
)


def test_rendered() -> None:
    entry = rendered("lenet5-mnist", "3", COUNTS)
    assert entry.pop("inference_stats") == {
        "success": {"count": 5, "ns": 50},
        "fail": {"count": 1, "ns": 7},
        "queue": {"count": 5, "ns": 3},
        "compute_input": {"count": 5, "ns": 2},
        "compute_infer": {"count": 5, "ns": 30},
        "compute_output": {"count": 5, "ns": 1},
        "cache_hit": {"count": 0, "ns": 0},
        "cache_miss": {"count": 0, "ns": 0},
    }
    assert entry == {
        "name": "lenet5-mnist",
        "version": "3",
        "last_inference": 1_700_000_000_000,
        "inference_count": 12,
        "execution_count": 6,
        "batch_stats": [],
    }


def test_the_protocol_shows_what_it_is_told(tmp_path: Path) -> None:
    write_regression(tmp_path / "made", name="linear_regression-energy")
    engine = Engine("cpu", 1, 1, 1)
    follower = Follower(BundlesFolder(tmp_path), engine, 1.0, None)
    follower._step()
    asked: list[tuple[str, str]] = []

    def statistics(*versions: tuple[str, str]) -> list[Statistics]:
        asked.extend(versions)
        return [COUNTS] * len(versions)

    on_demand = OnDemand(follower.load, 1)
    children = ChildProcesses(1)
    protocol = V2Protocol(
        Inference(engine),
        engine.turns,
        children,
        lambda: follower.catalogue,
        Readiness(follower, engine.turns, Drain(0.0, 31.0), 30.0),
        on_demand,
        statistics,
        30.0,
    )

    async def application(scope: dict, receive: object, send: object) -> None:
        await protocol(Exchange(scope, receive, send))

    async def ask(path: str) -> dict:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://zoo") as client:
            return (await client.get(path)).json()

    for path in ("/v2/models/energy/stats", "/v2/models/stats", "/v2/models/energy/versions/1/stats"):
        (entry,) = asyncio.run(ask(path))["model_stats"]
        assert entry["inference_stats"]["success"] == {"count": 5, "ns": 50}
        assert entry["name"] == ("energy" if "energy" in path else "linear_regression-energy")
    assert asked == [("linear_regression-energy", "1")] * 3
    on_demand.close()
    engine.close()
