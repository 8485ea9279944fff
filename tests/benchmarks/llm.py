"""SmolLM2-135M: our graphs and decoding loop against llama.cpp, on the same weights, prompts and threads.

    python -m tests.benchmarks.llm [--llama-python PYTHON]

1. Tokens a second of prompts that are read and of texts that are written, each variant and llama.cpp in turn.
   llama-cpp-python is compiled for minutes, and so is no dependency: any environment that has it will do
   (`python -m venv peer; peer/bin/pip install llama-cpp-python`, then `--llama-python peer/bin/python`).
2. What a variant loses: its perplexity on the language reference that Python carries, beside fp32's.
"""

import json
import math
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

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from training import smollm2
from training.datasets.published_file import found
from training.gguf_model import ImportedModel
from training.llama_graph import VARIANTS, Variant, build
from zoo.decoder import Decoder
from zoo.graph import Graph

PROMPTS = (40, 256, 1024)  # tokens
CONTEXT = 2048
READ_AT_ONCE = 256
WRITTEN = 64
TEXT, PART = 2048, 512  # tokens of the text, and of each part of it that is read by itself
PEER = Path(__file__).with_name("llama_cpp_peer.py")
LLAMA_CPP = "llama.cpp"


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    threads: int = 2
    rounds: int = 3
    llama_python: Path = Path(sys.executable)
    """A Python that has llama-cpp-python."""


@dataclass(frozen=True)
class Seconds:
    """Of one prompt, and of the WRITTEN tokens that follow it."""

    reading: float
    writing: float


def measure(decoder: Decoder, vocabulary: int, length: int) -> Seconds:
    """Reads a prompt in chunks, as the service does, and goes on greedily."""
    prompt = np.random.default_rng(0).integers(0, vocabulary, length)
    slot = decoder.open()
    started = time.perf_counter()
    for begin in range(0, length, READ_AT_ONCE):
        chunk = prompt[begin : begin + READ_AT_ONCE]
        logits = decoder.read(slot, chunk, np.array([len(chunk) - 1]))[0]
    read = time.perf_counter()
    for _ in range(WRITTEN):
        logits = decoder.step({slot: int(logits.argmax())})[slot]
    done = time.perf_counter()
    decoder.close(slot)
    return Seconds(read - started, done - read)


def perplexity(decoder: Decoder, text: NDArray[np.int64]) -> float:
    """Of parts of a text, each read from nothing."""
    nats = 0.0
    for begin in range(0, TEXT, PART):
        slot = decoder.open()
        logits = decoder.read(slot, text[begin : begin + PART], np.arange(PART)).astype(np.float64)
        decoder.close(slot)
        target = text[begin + 1 : begin + PART + 1]
        largest = logits.max(axis=1)
        total = np.log(np.exp(logits - largest[:, None]).sum(axis=1)) + largest
        nats += float((total - logits[np.arange(PART), target]).sum())
    return math.exp(nats / TEXT)


@contextmanager
def llama_cpp(given: Benchmark) -> Iterator[subprocess.Popen[str]]:
    """The peer, which answers a length with its seconds."""
    path = found(smollm2.FILE)
    assert path
    command = [given.llama_python, PEER, path, str(given.threads), str(WRITTEN)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdout
        if not peer.stdout.readline():
            sys.exit("llama.cpp did not start: give --llama-python a Python that has llama-cpp-python")
        try:
            yield peer
        finally:
            peer.terminate()


def ask(peer: subprocess.Popen[str], length: int) -> Seconds:
    """The peer's seconds of a prompt of this length."""
    assert peer.stdin
    assert peer.stdout
    peer.stdin.write(f"{length}\n")
    peer.stdin.flush()
    return Seconds(**json.loads(peer.stdout.readline()))


def decoder_of(model: ImportedModel, graph: Path, threads: int) -> Decoder:
    """With room for one text."""
    config = model.config
    opened = Graph(graph, threads=threads)
    return Decoder(opened, config.layers, config.key_value_heads, config.head_width, CONTEXT, slots=1)


def report_speed(decoders: dict[Variant, Decoder], vocabulary: int, given: Benchmark) -> None:
    """Prints tokens a second, and how many times those of llama.cpp, the median over the rounds."""
    with llama_cpp(given) as peer:
        for length in PROMPTS:
            title = f"Tokens a second, prompt of {length}, threads: {given.threads}"
            table = Table("", "read", "of llama.cpp's", "written", "of llama.cpp's", title=title)
            rounds: list[dict[str, Seconds]] = []
            for _ in range(given.rounds):
                ours = {name: measure(decoder, vocabulary, length) for name, decoder in decoders.items()}
                rounds.append({**ours, LLAMA_CPP: ask(peer, length)})
            for name in rounds[0]:
                reading, writing, reading_ratio, writing_ratio = (
                    statistics.median(values)
                    for values in zip(*(_figures(each, name, length) for each in rounds), strict=True)
                )
                table.add_row(
                    name,
                    f"{reading:.0f}",
                    f"{reading_ratio:.2f}",
                    f"{writing:.0f}",
                    f"{writing_ratio:.2f}",
                )
            Console().print(table)


def _figures(seconds: dict[str, Seconds], name: str, length: int) -> tuple[float, float, float, float]:
    own, peer = seconds[name], seconds[LLAMA_CPP]
    return length / own.reading, WRITTEN / own.writing, peer.reading / own.reading, peer.writing / own.writing


def main(given: Benchmark) -> None:
    """Builds the variants, measures them, and prints both tables."""
    model = smollm2.load()
    text = np.array(model.tokenizer.encode(_text(), add_special_tokens=False).ids[: TEXT + 1], np.int64)
    sizes = Table("variant", "seconds to build", "MB", "perplexity", "of fp32's")
    decoders: dict[Variant, Decoder] = {}
    exact = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for variant in VARIANTS:
            started = time.perf_counter()
            path = Path(folder, f"{variant}.onnx")
            path.write_bytes(build(model.config, model.weights, variant, CONTEXT))
            seconds = time.perf_counter() - started
            decoders[variant] = decoder_of(model, path, given.threads)
            measured = perplexity(decoders[variant], text)
            exact = exact or measured
            megabytes = path.stat().st_size / 1e6
            row = (f"{seconds:.1f}", f"{megabytes:.0f}", f"{measured:.2f}", f"{measured / exact:.3f}")
            sizes.add_row(variant, *row)
    Console().print(sizes)
    report_speed(decoders, model.tokenizer.get_vocab_size(), given)


def _text() -> str:
    topics = pydoc_data.topics.topics
    return "\n".join(topics[name] for name in sorted(topics))


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
