"""Drift: the difference between a version's recent inputs and its training data.

The last rows are compared with the bundle's baseline by the population stability index (PSI), the sum over
bins of (q - p) ln(q / p), where p are the shares of the training split and q those of the window (Siddiqi
2006, "Credit Risk Scorecards"). Half a row is added to each bin of both, so that an empty bin does not make
the index infinite. Without any drift it is about (bins - 1) (1 / rows + 1 / training rows), so it means
nothing for few rows (Yurdakul 2018, "Statistical Properties of Population Stability Index").
"""

import logging
import threading
from itertools import groupby
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from zoo.bundle import Baseline
from zoo.tasks import Arrays, Task
from zoo.tasks.baseline import binned

log = logging.getLogger(__name__)

WINDOW = 1000  # rows that are compared
LEAST_ROWS = 200
"""Minimum number of rows: with fewer, ten bins alone give a PSI of 0.05 or more without any drift."""
SMALL, TOGETHER = 8192, 256
"""Maximum bytes of a request that is buffered, and number of buffered requests that are processed together:
fewer than one request in a hundred does so."""
SOME, LARGE = 0.1, 0.25  # PSI, by the usual rule of thumb (Siddiqi 2006)

Level = Literal["none", "some", "large"]


class Drift(BaseModel):
    """Difference between the last rows and the training split."""

    window: Annotated[int, Field(description=f"Rows that are compared, the last {WINDOW} at most.")]
    psi: Annotated[
        dict[str, float],
        Field(description=f"Population stability index by feature; empty below {LEAST_ROWS} rows."),
    ]
    worst: Annotated[str | None, Field(description="The feature with the largest index.")]
    level: Annotated[
        Level | None, Field(description=f"Level of the largest index: some from {SOME}, large from {LARGE}.")
    ]


class Window:
    """Window of the last rows that a version computed, with a few numbers of each.

    The event loop adds rows, and any thread may ask for the drift. Small requests are buffered, as it takes
    hardly longer to process many than one.
    """

    def __init__(self, model: str, task: Task, baseline: Baseline) -> None:
        """`baseline` is the bundle's. Features that it lacks are not compared."""
        self._model = model
        self._task = task
        self._edges = {
            (place, name): np.array(baseline[name].edges, np.float32)
            for place, name in enumerate(task.observed_names())
            if name in baseline
        }
        self._shares = {name: np.array(baseline[name].shares) for _, name in self._edges}
        self._waiting: list[NDArray[Any]] = []
        self._lock = threading.Lock()  # protects the attributes below
        self._rows: NDArray[Any] | None = None  # [WINDOW, F, P], the oldest replaced first
        self._seen = 0
        self._drift: tuple[int, Drift] | None = None  # number of rows seen, and the drift then
        self._warned = False

    def add(self, inputs: Arrays) -> None:
        """Adds the rows of an answered request to the window."""
        if not self._edges:
            return
        asked = inputs[self._task.inputs[0]]
        if asked.nbytes > SMALL:
            with self._lock:
                self._note(asked)
            return
        self._waiting.append(asked.copy())  # a copy, as it may be a view into a large body
        if len(self._waiting) == TOGETHER:
            with self._lock:
                self._note_waiting()

    def drift(self) -> Drift | None:
        """Returns the difference between rows and baseline; None if the bundle has no baseline for them.

        Takes a millisecond or two if rows were added since the last call.
        """
        if not self._edges:
            return None
        with self._lock:
            self._note_waiting()
            seen = self._seen
            rows = np.zeros(0) if self._rows is None else self._rows[:seen].astype(np.float32)
        if self._drift is None or self._drift[0] != seen:
            self._drift = seen, self._measured(rows)
            self._warn(self._drift[1])
        return self._drift[1]

    def _note_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, alike in groupby(waiting, lambda asked: asked.shape[1:]):
            self._note(np.concatenate(list(alike)))

    def _note(self, asked: NDArray[Any]) -> None:
        observed = self._task.observed(asked[-WINDOW:])
        if self._rows is None:
            self._rows = np.empty((WINDOW, *observed.shape[1:]), observed.dtype)
        self._rows[np.arange(self._seen, self._seen + len(observed)) % WINDOW] = observed
        self._seen += len(observed)

    def _measured(self, rows: NDArray[Any]) -> Drift:
        if len(rows) < LEAST_ROWS:
            return Drift(window=len(rows), psi={}, worst=None, level=None)
        psi = {}
        for (place, name), edges in self._edges.items():
            values = rows[:, place]
            counts = binned(values[~np.isnan(values)], edges)
            if counts.any():  # not a feature that no row has
                psi[name] = stability_index(self._shares[name], counts / counts.sum(), len(rows))
        if not psi:
            return Drift(window=len(rows), psi={}, worst=None, level=None)
        worst = max(psi, key=lambda name: psi[name])
        return Drift(window=len(rows), psi=psi, worst=worst, level=_level(psi[worst]))

    def _warn(self, drift: Drift) -> None:
        """Logs a large drift once, until the level has returned to none."""
        if drift.worst is not None and drift.level == "large" and not self._warned:
            psi = drift.psi[drift.worst]
            log.warning("%s: the inputs have drifted, PSI %.2f of %s", self._model, psi, drift.worst)
        self._warned = drift.level == "large" or (self._warned and drift.level != "none")


def stability_index(expected: NDArray[np.float64], actual: NDArray[np.float64], rows: int) -> float:
    """Returns the PSI of two distributions over the bins [B]; adds half a row of `rows` to every bin."""
    p, q = ((shares * rows + 0.5) / (rows + 0.5 * len(shares)) for shares in (expected, actual))
    return float(((q - p) * np.log(q / p)).sum())


def _level(psi: float) -> Level:
    return "large" if psi >= LARGE else "some" if psi >= SOME else "none"
