"""Process that compiles JSON Schemas of which nobody knows how much time and memory they take.

Reads a schema a line, and writes a line of JSON: what is wrong with it, or null, and the seconds that it
took. A schema that takes too much ends the process. It also ends with the process that writes to it.
"""

import json
import sys
import time
from pathlib import Path

from llguidance import LLTokenizer, TokenizerWrapper

from serving.protocols.openai.schema_matcher import matcher_of, reason_of

MAX_SECONDS = 0.2  # of the processor; schemas in use take 0.02
MAX_MEMORY = 48 << 20  # bytes more than before


class Bytes:
    """A token for each byte: how long a schema takes to compile does not depend on the tokens."""

    bos_token_id = None

    def __init__(self) -> None:
        self.tokens = [*(bytes([byte]) for byte in range(0xFF)), b"<end>"]  # 0xFF begins special tokens
        self.eos_token_id = len(self.tokens) - 1
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def main() -> None:
    """Answers until there is nothing more to read."""
    tokens = LLTokenizer(TokenizerWrapper(Bytes()))
    print(flush=True)  # noqa: T201  # that it is ready
    for line in sys.stdin:
        _bound(MAX_SECONDS)
        begun = time.perf_counter()  # finer than the processor's time, of which it took no more
        matcher = matcher_of(line, tokens)
        if not matcher.is_error():
            matcher.compute_bitmask()
        reason = reason_of(matcher) if matcher.is_error() else None
        _bound(0)
        print(json.dumps([reason, min(time.perf_counter() - begun, MAX_SECONDS)]), flush=True)  # noqa: T201


def _bound(seconds: float) -> None:
    """Has this process end where it takes more time or memory from now on; 0 seconds are any time."""
    if sys.platform == "win32":
        return  # the process that waits for it ends it after a while
    import resource
    import signal

    signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends the process
    if sys.platform == "linux":  # elsewhere the time bounds the memory
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + MAX_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
