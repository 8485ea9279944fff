"""SmolLM2-135M: texts that are streamed at once, by our service and by llama-cpp-python's server.

    zoo export smollm2-python-topics exported/smollm2 --variant int4
    python -m tests.benchmarks.streams exported/smollm2 [--llama-python PYTHON]

Tokens a second of all streams together, and when the last of them had its first token, through OpenAI's
client, of the same weights on the same threads; in turn, for some rounds, of which the medians are printed.
Each stream has a prompt of its own. The other server, which writes one text after the other, needs
`pip install 'llama-cpp-python[server]'` in an environment of its own.
"""

import asyncio
import pydoc_data.topics
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import tyro
from openai import AsyncOpenAI
from rich.console import Console
from rich.table import Table

from tests.serving.server import free_port, running, wait_for
from training import smollm2
from training.datasets.published_file import found

STREAMS = (1, 4, 8)
WRITTEN = 64  # tokens of each text
PROMPT = 160  # characters, which are about 40 tokens
ENDS = {"0": -100.0, "2": -100.0}  # the tokens that end a text: none does before it has all of its tokens


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """A folder that `zoo export` made of SmolLM2."""
    threads: int = 2
    """llama.cpp's; the service takes all cores."""
    rounds: int = 3
    llama_python: Path = Path(sys.executable)
    """A Python that has llama-cpp-python and what its server needs."""


@dataclass(frozen=True)
class Measured:
    """Some streams at once."""

    rate: float
    """Tokens a second, of all of them."""
    last_first: float
    """Seconds until each had its first token."""


async def stream(client: AsyncOpenAI, model: str, prompt: str) -> float:
    """Seconds until the first token of a text that is written to its end."""
    started, first = time.perf_counter(), 0.0
    chunks = await client.completions.create(
        model=model, prompt=prompt, max_tokens=WRITTEN, temperature=0, stream=True, logit_bias=ENDS
    )
    async for chunk in chunks:
        first = first or time.perf_counter() - started
        finish = chunk.choices[0].finish_reason
    assert finish == "length", finish
    return first


async def measure(url: str, streams: int, round_: int) -> Measured:
    """So many at once; another round has other prompts, so that no server has read them before."""
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        model = (await client.models.list()).data[0].id
        topics = sorted(pydoc_data.topics.topics.values())
        prompts = [topic[100 * round_ : 100 * round_ + PROMPT] for topic in topics if len(topic) > 1000]
        started = time.perf_counter()
        firsts = await asyncio.gather(*(stream(client, model, text) for text in prompts[:streams]))
        return Measured(streams * WRITTEN / (time.perf_counter() - started), max(firsts))


@contextmanager
def llama_cpp(given: Benchmark) -> Iterator[str]:
    """The other server's address."""
    smollm2.load()  # which fetches the file where it is not there
    weights, port = found(smollm2.FILE), free_port()
    assert weights
    options = {"model": weights, "port": port, "n_threads": given.threads, "n_threads_batch": given.threads}
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    command = [given.llama_python, "-m", "llama_cpp.server", *flags, "--interrupt_requests", "false"]
    url = f"http://127.0.0.1:{port}"

    def listens() -> bool:
        try:
            return httpx.get(f"{url}/v1/models").status_code == 200
        except httpx.TransportError:
            return False

    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(listens, within=60)
            yield url
        finally:
            server.terminate()


def main(given: Benchmark) -> None:
    """Measures both, and prints the table."""
    table = Table("streams", "", "tokens/s", "of llama.cpp's", "last first token (s)")
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder, "log"), ZOO_BUNDLES=str(given.bundle.resolve())) as ours,
        llama_cpp(given) as theirs,
    ):
        servers = {"llama.cpp's server": theirs, "the zoo": ours.url}
        for streams in STREAMS:
            rounds = [
                {name: asyncio.run(measure(url, streams, round_)) for name, url in servers.items()}
                for round_ in range(given.rounds)
            ]
            for name in servers:
                rate, ratio, first = (
                    statistics.median(values)
                    for values in zip(
                        *(
                            (r[name].rate, r[name].rate / r["llama.cpp's server"].rate, r[name].last_first)
                            for r in rounds
                        ),
                        strict=True,
                    )
                )
                table.add_row(str(streams), name, f"{rate:.0f}", f"{ratio:.2f}", f"{first:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
