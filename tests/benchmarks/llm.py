"""SmolLM2-135M: our graphs and decoding loop against llama.cpp, on the same weights, prompts and threads.

    python -m tests.benchmarks.llm [--llama-python PYTHON]

1. Tokens a second of prompts that are read and texts that are written, each variant and llama.cpp in turn.
   llama-cpp-python has to be compiled, for minutes, and so is no dependency: any environment that has it will
   do (`python -m venv peer; peer/bin/pip install llama-cpp-python`, then `--llama-python peer/bin/python`).
2. What a variant loses: its perplexity on the language reference that Python carries, beside fp32's.
"""

import json
import math
import pydoc_data.topics
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from training import smollm2
from training.gguf_model import ImportedModel
from training.llama_graph import VARIANTS, build
from zoo.decoder import Decoder
from zoo.graph import Graph

PROMPTS = (40, 256, 1024)  # tokens
CONTEXT = 2048
READ_AT_ONCE = 256
WRITTEN = 64
TEXT, PART = 2048, 512  # tokens of the text, and of each part of it that is read by itself
PEER = Path(__file__).with_name("llama_cpp_peer.py")


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


def perplexity(decoder: Decoder, text: np.ndarray) -> float:
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
    command = [given.llama_python, PEER, smollm2.path(), str(given.threads), str(WRITTEN)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
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
    if not (line := peer.stdout.readline()):
        sys.exit("llama.cpp ended: give --llama-python a Python that has llama-cpp-python")
    return Seconds(**json.loads(line))
