"""A source of versions that tests change as they like."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.source import Listing, Version
from zoo.errors import BundleError
from zoo.version import CHAMPION


class FakeSource:
    """Versions of one model, whose bundles are in folders; those that are not there cannot be read."""

    described = "the tests' source"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.champion = "1"
        self.digest: str | None = None

    def read(self) -> Listing:
        if not self.champion:
            return Listing()
        version = Version("linear_regression-diabetes", self.champion, (CHAMPION,), True, "", {}, self.digest)
        return Listing({version.model: (version,)})

    @contextmanager
    def bundle(self, version: Version) -> Iterator[Path]:
        if not (self.folder / version.number).is_dir():
            raise BundleError("its files are gone")
        yield self.folder / version.number
