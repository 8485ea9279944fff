"""Who may import whom, and what a file may be called: read from the sources, and from real processes."""

import ast
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("zoo", "training", "serving")
SOURCES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TORCH = {"torch", "torchvision", "lightning_fabric", "training", "zoo.models", "zoo.layers"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "core", "manager", "managers"}
# What a model needs to answer.
BASE = {"jinja2", "numpy", "pydantic", "onnxruntime", "PIL", "tokenizers", "zoo"}
MLFLOW = {
    "training/store.py",
    "training/text_model.py",  # which MLflow runs
    "training/tracking.py",
    "training/promotion.py",
    "serving/registry.py",
}


def part(*prefixes: str) -> list[Path]:
    found = [path for path in SOURCES if str(path).startswith(prefixes)]
    assert found, f"no file starts with {prefixes}: this table is out of date"
    return found


@cache
def imports(path: Path, at_import: bool = False) -> frozenset[str]:
    """Dotted names that a file imports, anywhere in it or only when it is itself imported."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    return frozenset(found)


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def forbidden(path: Path, packages: set[str]) -> list[str]:
    return sorted(name for name in imports(path) if within(name, packages))


def ids(path: object) -> str:
    return str(path)


@pytest.mark.parametrize("path", part("zoo/tasks", "zoo/bundle", "zoo/metrics", "zoo/errors", "zoo/graph",
                                      "zoo/images", "zoo/home", "zoo/version"), ids=ids)  # fmt: skip
def test_what_both_sides_share_needs_little(path: Path) -> None:
    assert forbidden(path, TORCH | {"serving", "mlflow"}) == []
    allowed = BASE | set(sys.stdlib_module_names)
    assert [name for name in imports(path) if name.partition(".")[0] not in allowed] == []


@pytest.mark.parametrize("path", part("zoo/models", "zoo/layers"), ids=ids)
def test_architectures_need_torch_alone(path: Path) -> None:
    allowed = {"torch", "zoo"} | set(sys.stdlib_module_names)
    assert [name for name in imports(path) if name.partition(".")[0] not in allowed] == []
    ours = [name for name in imports(path) if within(name, {"zoo"})]
    assert [name for name in ours if not within(name, {"zoo.layers"})] == [], (
        "shared blocks live in zoo/layers"
    )


@pytest.mark.parametrize("path", part("training"), ids=ids)
def test_training_never_imports_serving(path: Path) -> None:
    assert forbidden(path, {"serving", "bentoml"}) == []


@pytest.mark.parametrize("path", part("serving"), ids=ids)
def test_serving_never_imports_torch_or_training(path: Path) -> None:
    assert forbidden(path, TORCH) == []


@pytest.mark.parametrize("path", part("zoo"), ids=ids)
def test_zoo_imports_the_sides_only_when_a_command_runs(path: Path) -> None:
    sides = {"training", "serving", "mlflow", "bentoml"}
    if str(path) in ("zoo/cli.py", "zoo/ask_command.py"):
        assert [name for name in imports(path, at_import=True) if within(name, sides)] == []
    else:
        assert forbidden(path, sides) == []


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_mlflow_is_known_in_few_places(path: Path) -> None:
    knows = bool(forbidden(path, {"mlflow"}))
    assert not knows or str(path) in MLFLOW


def test_places_that_know_mlflow_are_there() -> None:
    assert {str(path) for path in SOURCES if forbidden(path, {"mlflow"})} == MLFLOW


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_names_say_what_a_file_holds(path: Path) -> None:
    words = {word for name in (*path.parent.parts, path.stem) for word in name.split("_")}
    assert not words & VAGUE


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_nothing_is_unpickled(path: Path) -> None:
    assert forbidden(path, {"pickle", "dill", "cloudpickle", "joblib"}) == []


@pytest.mark.parametrize("kind", ["architecture", "data set"])
def test_one_name_everywhere(kind: str) -> None:
    from training import datasets, recipes

    if kind == "architecture":
        found = {name: recipes.recipe_for(name).architecture for name in recipes.names()}
    else:
        found = {name: datasets.find(name).name for name in datasets.names()}
    assert found == {name: name for name in found}


# What really gets loaded

HEAVY = ("torch", "mlflow", "training", "serving", "bentoml", "pandas", "sklearn", "matplotlib", "scipy")
IMPORTS = {
    "import zoo.tasks, zoo.bundle, zoo.graph, zoo.version, zoo.images": HEAVY,
    "import zoo.cli": (*HEAVY, "onnxruntime", "numpy"),
    "import zoo.cli; zoo.cli.main(['--help'])": (*HEAVY, "onnxruntime", "numpy"),
    "import zoo.cli; zoo.cli.main(['data', '--json'])": ("torch", "mlflow"),
    "import zoo.cli; zoo.cli.main(['leaderboard', '--json'])": ("torch", "matplotlib", "sklearn"),
    "import serving.service": ("torch", "training", "zoo.models", "zoo.layers"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("statement", "unwanted"), IMPORTS.items(), ids=IMPORTS)
def test_nobody_pays_for_what_is_not_used(statement: str, unwanted: tuple[str, ...], home: Path) -> None:
    code = f"try:\n  {statement}\nexcept SystemExit: pass\nimport sys; print('\\n', *sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & set(unwanted) == set()


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest would refuse the second, in folders without `__init__.py`."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_docstrings_begin_with_what_they_describe() -> None:
    """A verb phrase or a noun phrase; never a bare relative clause or genitive."""
    begins_badly = re.compile(r"(Of|What|Whether|Nothing|Those|As|How|Where|Who|Which|That|When|Why)\b")
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            body = getattr(node, "body", None)
            for statement in body if isinstance(body, list) else ():
                match statement:
                    case ast.Expr(value=ast.Constant(value=str(text))) if begins_badly.match(text):
                        found.append(f"{path}:{statement.lineno}: {text[:60]}")
    assert found == []
