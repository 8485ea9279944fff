"""Sources of versions: the common interface of a registry and a folder of bundles."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from zoo.version import ChallengerMode


@dataclass(frozen=True)
class Version:
    """Registered version as its source describes it, before its bundle is opened."""

    model: str
    number: str
    aliases: tuple[str, ...]
    passed: bool
    """True if the version passed its gate and may be served."""
    reason: str
    """Reason why the version may or may not be served; may be empty."""
    metrics: dict[str, float]
    digest: str | None
    """Expected digest of the bundle; None if the source does not know it."""
    challenge: ChallengerMode | None = None
    """Mode in which the version competes with its model's champion; None if it does not."""


@dataclass(frozen=True)
class Listing:
    """Contents of a source at one time."""

    versions: dict[str, tuple[Version, ...]] = field(default_factory=dict)
    """Versions by model, newest first."""
    data_sets: dict[str, str] = field(default_factory=dict)
    """Models that answer to data sets' names, by data set, as far as the source names them."""


class Source(Protocol):
    """Lists versions and hands out their bundles."""

    described: str
    """Description of the source in messages."""

    def read(self) -> Listing:
        """Returns the current listing. Any exception means that the source cannot be reached now.

        Only one thread calls this, whereas several may call `bundle`.
        """

    def bundle(self, version: Version) -> AbstractContextManager[Path]:
        """Returns a context manager for the directory of a version's bundle, valid until exit."""
