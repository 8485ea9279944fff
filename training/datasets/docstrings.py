"""Docstrings: the first line of a Python docstring, to be generated from the rest of it.

Made from the modules, classes and functions of the standard library and the installed packages. Private ones
are included, because many packages define their public names in private modules; tests and copies of other
packages are left out. Files are parsed and never imported. The pairs, and the digest, depend on the
environment: runs are comparable only if the same versions are installed. All docstrings of a package are in
the same split.
"""

import ast
import hashlib
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePath

import numpy as np

from training.datasets.array_cache import cached, file_identity, identity
from training.datasets.base import Data, DataSet
from training.datasets.pairs import KIND, Pair, cut, pair_arrays, split_by_group
from zoo.tasks import Arrays, Schema

NAME = "docstrings"
SOURCE = "made here, of installed packages' docstrings"
TEST_SHARE = 0.1  # share of the packages
MOST_PAIRS = 60_000
PACKAGE_PAIRS = 2000  # maximum per package, so that a few packages do not dominate
SHORTEST, LONGEST = 40, 300  # characters of a source; longer ones are cut: cost grows with the square
SHORTEST_TARGET, LONGEST_TARGET = 10, 120
TESTS = {"test", "tests", "testing"}
COPIES = {"_vendor", "vendor", "vendored", "externals", "_thirdparty"}
LEFT_OUT = {*TESTS, *COPIES, "site-packages", "dist-packages"}  # folders to skip
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def load() -> Data:
    """Loads the pairs, a tenth of the packages for testing; parses once, for two minutes, and caches them."""
    folders = sysconfig.get_paths()
    files = python_files([Path(folders[key]) for key in ("stdlib", "purelib", "platlib")])
    listed = [file_identity(path, str(path)) for paths in files.values() for path in paths]
    limits = (MOST_PAIRS, PACKAGE_PAIRS, SHORTEST, LONGEST, SHORTEST_TARGET, LONGEST_TARGET)
    pairs = cached(f"{NAME}-{identity([str(limits), *listed])}", lambda: read_packages(files))
    groups = [package.decode() for package in pairs.pop("package").tolist()]
    return split_by_group(NAME, Schema(metric="rouge_l"), SOURCE, pairs, groups, TEST_SHARE)


def python_files(roots: list[Path]) -> dict[str, list[Path]]:
    """Returns the module files of each package in these folders, in a random but fixed order."""
    files: dict[str, dict[PurePath, Path]] = {}
    for root in roots:
        for path in root.rglob("*.py"):
            module = path.relative_to(root)
            if LEFT_OUT.isdisjoint(module.parts):
                files.setdefault(module.parts[0].removesuffix(".py"), {})[module] = path
    return {
        package: [files[package][module] for module in sorted(files[package], key=_order)]
        for package in sorted(files)
    }


def _order(module: PurePath) -> bytes:
    return hashlib.sha256(module.as_posix().encode(errors="surrogateescape")).digest()


def read_packages(files: dict[str, list[Path]]) -> Arrays:
    """Returns `source`, `target` and `package` of the packages' pairs; no source occurs twice."""
    known: set[str] = set()  # packages contain copies of one another
    packages: dict[str, list[Pair]] = {}
    for package, paths in files.items():
        pairs = packages.setdefault(package, [])
        for path in paths:
            for source, target in read_docstrings(path.read_bytes()):
                if source not in known and len(pairs) < PACKAGE_PAIRS:
                    known.add(source)
                    pairs.append((source, target))
            if len(pairs) == PACKAGE_PAIRS:
                break
    most = PACKAGE_PAIRS
    while sum(min(len(pairs), most) for pairs in packages.values()) > MOST_PAIRS:
        most -= 1
    kept = {package: pairs[:most] for package, pairs in packages.items()}
    names = [package.encode() for package, pairs in kept.items() for _ in pairs]
    return {**pair_arrays(pair for pairs in kept.values() for pair in pairs), "package": np.array(names)}


def read_docstrings(module: bytes) -> Iterator[Pair]:
    """Yields the pairs of one module's source code; none if Python cannot parse it."""
    if b'"""' not in module and b"'''" not in module:  # avoids parsing, which is slow
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # invalid escapes in the packages
            warnings.simplefilter("ignore", DeprecationWarning)
            tree = ast.parse(module)
    except (SyntaxError, ValueError):  # templates and other versions' Python; text that is not UTF-8
        return
    for docstring in _docstrings(tree):
        first, _, rest = docstring.partition("\n")
        if not first.rstrip().endswith((".", "!", "?")) and rest.partition("\n")[0].strip():
            continue  # the first sentence continues on the second line
        target, source = " ".join(first.split()), " ".join(rest.split())
        if (
            len(source) >= SHORTEST
            and SHORTEST_TARGET <= len(target) <= LONGEST_TARGET
            and (source + target).isprintable()  # no NUL, and nothing that UTF-8 cannot encode
        ):
            yield cut(source, LONGEST), target


def _docstrings(node: ast.Module | Definition) -> Iterator[str]:
    """Yields the docstrings of a module or class and of all definitions in it, or of a function."""
    if docstring := ast.get_docstring(node):
        yield docstring
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            if isinstance(child, Definition):
                yield from _docstrings(child)


DATASET = DataSet(NAME, KIND, "about 40,000 docstrings", "each package's own", SOURCE, load)
