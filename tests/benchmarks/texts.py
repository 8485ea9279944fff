"""Writing texts: what a token costs as the text grows, and what many texts in one request gain.

    python -m tests.benchmarks.texts

1. Tokens a second of the Transformer's decoder with its cache, and of the same decoder without one, which
   reads everything again for each token; untrained, as the numbers do not change what a step costs.
2. Through the real service: 32 numbers in one request, and in 32 requests, many at a time and one after the
   other.
"""

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from tests.serving.server import running
from training import pipeline
from training.export import export
from training.recipes.transformer import NUMBERS, TSV_RECIPE
from zoo.graph import open_graphs
from zoo.tasks import Arrays, Run
from zoo.tasks.sequence_to_sequence import BEGIN, SequenceToSequence

LENGTHS = (16, 64, 256)
ROUNDS = 3
TEXTS = 32
CLIENTS = 16
FAIR_ROUNDS = 5


def decoder() -> tuple[Run, SequenceToSequence]:
    """Both graphs of the size that translates, untrained."""
    recipe = dataclasses.replace(NUMBERS, model=TSV_RECIPE.model)
    prepared = pipeline.prepare(recipe)
    assert isinstance(prepared.task, SequenceToSequence)
    graphs = export(prepared.objective.export_module(), prepared.task)
    return open_graphs(list(graphs.values())), prepared.task


def write(run: Run, task: SequenceToSequence, length: int, cached: bool) -> None:
    """`length` tokens, greedily, whatever they are."""
    source = task.example_inputs(1)
    memory: Arrays = {**source, **run(source)}
    layers, heads, width = task.cache_shape
    empty = np.zeros((1, layers, heads, 0, width), np.float32)
    past, tokens = {"past_keys": empty, "past_values": empty}, np.array([[BEGIN]])
    for _ in range(length):
        outputs = run({"tokens": tokens, **memory, **past})
        following = outputs["logits"][:, -1:].argmax(axis=2)
        if cached:
            past, tokens = {"past_keys": outputs["keys"], "past_values": outputs["values"]}, following
        else:
            tokens = np.concatenate([tokens, following], axis=1)


def seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median of several rounds, after one that does not count."""
    work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def measure_decoding() -> None:
    """Prints tokens a second by length."""
    run, task = decoder()
    table = Table(
        "tokens", "with the cache", "without", "ratio", title="Tokens a second, one text, one thread"
    )
    for length in LENGTHS:
        cached, whole = (
            length / seconds(lambda c=c, n=length: write(run, task, n, c)) for c in (True, False)
        )
        table.add_row(str(length), f"{cached:.0f}", f"{whole:.0f}", f"{cached / whole:.2f}")
    Console().print(table)


def measure_service() -> None:
    """Prints texts a second through the service."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZOO_HOME"] = folder
        result = pipeline.train(dataclasses.replace(NUMBERS, epochs=1, bar=None))
        assert result is not None
        test = NUMBERS.load_data().test["source"][: 2 * TEXTS]
        texts = [text.decode() for text in test.tolist()][:TEXTS]
        with (
            running(Path(folder) / "server.log", ZOO_HOME=folder) as server,
            httpx.Client(base_url=server.url, timeout=60) as client,
        ):

            def ask(text: object) -> None:
                body = {"model": result.model, "text": text, "beam_size": 1}
                client.post("/transform_text", json=body).raise_for_status()

            together = TEXTS / seconds(lambda: ask(texts), FAIR_ROUNDS)
            with ThreadPoolExecutor(CLIENTS) as threads:
                at_once = TEXTS / seconds(lambda: list(threads.map(ask, texts)), FAIR_ROUNDS)
            alone = TEXTS / seconds(lambda: [ask(text) for text in texts], FAIR_ROUNDS)
    title = f"{TEXTS} numbers in words through the service, greedily"
    table = Table("", "texts a second", "of one after the other", title=title)
    for name, rate in {
        "one request": together,
        f"a request each, {CLIENTS} at a time": at_once,
        "a request each, one after the other": alone,
    }.items():
        table.add_row(name, f"{rate:.0f}", f"{rate / alone:.1f}")
    Console().print(table)


if __name__ == "__main__":
    measure_decoding()
    measure_service()
