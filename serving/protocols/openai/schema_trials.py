"""Trial compilation of JSON Schemas in a child process, which is ended if a schema takes too much."""

import asyncio
import json
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

from serving.context import RequestContext
from serving.line_process import LineProcess
from serving.turns import awaited, too_late
from zoo.errors import InvalidInput

MAX_WAIT = 3.0  # seconds for one schema, enough on a busy machine
MAX_PASSED = 4096
BYTES_A_SECOND = 100 << 20
"""Maximum memory of a compiled schema, in bytes per second that it took to compile."""


class Untried(Exception):
    """Raised for a schema that has not passed a trial."""

    def __init__(self, schema: str) -> None:
        super().__init__()
        self.schema = schema


class SchemaTrials:
    """Schemas that have passed a trial, and the child process that compiles others."""

    def __init__(self) -> None:
        """Does not start the process; the first schema does."""
        self._thread = ThreadPoolExecutor(1, "schemas")
        self._process: LineProcess | None = None
        self._passed: OrderedDict[bytes, int] = OrderedDict()
        self._lock = threading.Lock()

    def size(self, schema: str) -> int:
        """Returns the maximum size of a compiled schema in bytes; raises `Untried` if it is not known."""
        digest = _digest(schema)
        with self._lock:
            if digest not in self._passed:
                raise Untried(schema)
            self._passed.move_to_end(digest)
            return self._passed[digest]

    async def try_out(self, schema: str, context: RequestContext) -> None:
        """Compiles a schema in the child process; raises `InvalidInput` if it is invalid or takes too much.

        Also raises `DeadlineExceeded` and `ClientLeft`, like `serving.turns.awaited`.
        """
        waiting = asyncio.wrap_future(self._thread.submit(self._compile, schema, context.deadline))
        size = await awaited(waiting, context)
        with self._lock:
            self._passed[_digest(schema)] = size
            if len(self._passed) > MAX_PASSED:
                self._passed.popitem(last=False)

    def close(self) -> None:
        """Stops the process and the thread, without waiting for a schema that is being compiled."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._end()

    def _compile(self, schema: str, deadline: float) -> int:
        if self._process is None or self._process.status is not None:
            self._end()
            self._process = LineProcess("serving.protocols.openai.schema_process")
        if (seconds := deadline - time.monotonic()) <= 0:
            raise too_late()
        answer = self._process.ask(schema, min(MAX_WAIT, seconds))
        if answer is None:
            self._end()
            raise InvalidInput("the schema takes too much to compile; give fewer and simpler keywords")
        reason, seconds = json.loads(answer)
        if reason is not None:
            raise InvalidInput(f"no schema to write by: {reason}")
        return int(seconds * BYTES_A_SECOND)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()


def _digest(schema: str) -> bytes:
    return sha256(schema.encode()).digest()
