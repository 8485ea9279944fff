"""Versions that are no champions: loaded when they are asked for, and the least recently used give way."""

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
"""Registered model and number."""


class OnDemand:
    """At most so many versions, loaded one after the other by a thread. For one event loop."""

    def __init__(self, load: Callable[[Version], Served], bound: int) -> None:
        """`load` raises `NotFound` where a version fails its checks; at most `bound` stay loaded."""
        self._load = load
        self._bound = bound
        self._resident: OrderedDict[Key, Served] = OrderedDict()
        self._loading: dict[Key, asyncio.Future[Served]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="on-demand")

    async def get(self, version: Version, deadline: float) -> Served:
        """The version, loaded once for all who ask for it.

        `NotFound` as of `load`; `DeadlineExceeded` past the deadline, on `time.monotonic()`: the loading goes
        on, for those who ask again.
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
        """Ends the thread once it is done."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _loaded(self, key: Key, loading: "asyncio.Future[Served]") -> None:
        del self._loading[key]
        if loading.cancelled() or loading.exception() is not None:
            return
        self._resident[key] = loading.result()
        if len(self._resident) > self._bound:
            self._resident.popitem(last=False)
