"""Child process that compiles untrusted JSON Schemas under limits of time and memory.

Reads one schema per line, and writes one line of JSON: the error or null, and the seconds that compiling
took. The process dies if a schema exceeds the limits, and exits when its input is closed.
"""

import json
import sys
import time
from pathlib import Path

from llguidance import LLTokenizer, TokenizerWrapper

from serving.protocols.openai.schema_matcher import matcher_of, reason_of

MAX_SECONDS = 0.2  # of processor time; common schemas take 0.02
MAX_MEMORY = 48 << 20  # bytes, in addition to those in use before


class Bytes:
    """Tokenizer with one token per byte; compile time does not depend on the tokens."""

    bos_token_id = None

    def __init__(self) -> None:
        self.tokens = [*(bytes([byte]) for byte in range(0xFF)), b"<end>"]  # 0xFF begins special tokens
        self.eos_token_id = len(self.tokens) - 1
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def main() -> None:
    """Compiles schemas until the input ends."""
    tokens = LLTokenizer(TokenizerWrapper(Bytes()))
    print(flush=True)  # noqa: T201  # signals that the process is ready
    for line in sys.stdin:
        _bound(MAX_SECONDS)
        begun = time.perf_counter()  # finer than processor time, and never less than it
        matcher = matcher_of(line, tokens)
        if not matcher.is_error():
            matcher.compute_bitmask()
        reason = reason_of(matcher) if matcher.is_error() else None
        _bound(0)
        print(json.dumps([reason, min(time.perf_counter() - begun, MAX_SECONDS)]), flush=True)  # noqa: T201


def _bound(seconds: float) -> None:
    """Limits the processor time and memory of this process from now on; 0 seconds removes the time limit."""
    if sys.platform == "win32":
        return  # the parent process ends this one after a timeout
    import resource
    import signal

    signal.setitimer(signal.ITIMER_PROF, seconds)  # the signal SIGPROF ends the process
    if sys.platform == "linux":  # elsewhere only the time limit bounds the memory
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + MAX_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
