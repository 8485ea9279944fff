"""llama.cpp, in its own process and environment: measures a prompt of each length that it is told.

python llama_cpp_peer.py GGUF THREADS TOKENS_TO_WRITE < lengths
"""

import json
import sys
import time

import numpy as np
from llama_cpp import Llama


def main(path: str, threads: int, written: int) -> None:
    """A line when it is ready, then one of JSON for each that comes in: seconds of reading and of writing."""
    model = Llama(path, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False)
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        prompt = np.random.default_rng(0).integers(0, model.n_vocab(), int(line)).tolist()
        model.reset()
        started = time.perf_counter()
        model.eval(prompt)
        read = time.perf_counter()
        for _ in range(written):
            model.eval([model.sample(temp=0.0)])
        done = time.perf_counter()
        print(json.dumps({"reading": read - started, "writing": done - read}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
