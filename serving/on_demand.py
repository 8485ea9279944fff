"""Versions other than champions: loaded on request, in a least-recently-used cache."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from serving.catalogue import Served
from serving.source import Version
from serving.turns import DeadlineExceeded

Key = tuple[str, str]
"""Registered model and version number."""


class OnDemand:
    """Cache of versions, which a thread loads one at a time. For use by one event loop."""

    def __init__(self, load: Callable[[Version], Served], bound: int) -> None:
        """`load` raises `NotFound` if a version fails its checks; at most `bound` versions stay loaded."""
        self._load = load
        self._bound = bound
        self._resident: OrderedDict[Key, Served] = OrderedDict()
        self._loading: dict[Key, asyncio.Future[Served]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="on-demand")

    async def get(self, version: Version, deadline: float) -> Served:
        """Returns the version, which is loaded once for all requests that wait for it.

        Raises `NotFound` as `load` does, and `DeadlineExceeded` past the deadline, on `time.monotonic()`; the
        loading continues for later requests.
        """
        key = (version.model, version.number)
        if key in self._resident:
            self._resident.move_to_end(key)
            return self._resident[key]
        loading = self._loading.get(key)
        if loading is None:
            loading = asyncio.wrap_future(self._thread.submit(self._load, version))
            self._loading[key] = loading
            loading.add_done_callback(partial(self._loaded, key))
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await asyncio.shield(loading)
        except TimeoutError:
            raise DeadlineExceeded("the version was not loaded within the deadline") from None

    def close(self) -> None:
        """Stops the thread after its current load; waiting ones are cancelled."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _loaded(self, key: Key, loading: "asyncio.Future[Served]") -> None:
        del self._loading[key]
        if loading.cancelled() or loading.exception() is not None:
            return
        self._resident[key] = loading.result()
        if len(self._resident) > self._bound:
            self._resident.popitem(last=False)
