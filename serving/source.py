"""Where versions come from: what a registry and a folder of bundles have in common."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from zoo.version import ChallengerMode


@dataclass(frozen=True)
class Version:
    """A registered version as its source describes it, before its bundle was looked at."""

    model: str
    number: str
    aliases: tuple[str, ...]
    passed: bool
    """Whether it passed its gate and may be served."""
    reason: str
    """Why it may or may not be served, in words; may be empty."""
    metrics: dict[str, float]
    digest: str | None
    """What the bundle's digest has to be, where the source knows it."""
    challenge: ChallengerMode | None = None
    """How it competes with its model's champion, where it does."""


@dataclass(frozen=True)
class Listing:
    """Everything that a source holds at one time."""

    versions: dict[str, tuple[Version, ...]] = field(default_factory=dict)
    """By model, newest first."""
    data_sets: dict[str, str] = field(default_factory=dict)
    """The model that answers to a data set's name, where the source says so."""


class Source(Protocol):
    """Lists versions and hands out their bundles."""

    described: str
    """What it is, for messages."""

    def read(self) -> Listing:
        """The current listing; any exception means that the source cannot be reached now.

        Called by one thread; bundles are asked for by others, too.
        """

    def bundle(self, version: Version) -> AbstractContextManager[Path]:
        """The directory with the version's bundle, there while the context is open."""
