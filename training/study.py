"""Studies: tracked runs that compare settings to show an idea of the course, with one figure for a slide.

A file `learning_rate.py` in `training/studies/` is the study `learning-rate`: the first line of its
docstring states the question, and its function `run` finds the answer.
"""

import ast
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from training import studies
from zoo.errors import NotFound

if TYPE_CHECKING:  # listing the studies needs neither torch nor MLflow nor matplotlib
    from matplotlib.figure import Figure

    from training.laboratory import Laboratory
    from training.tracking import RunLog


@dataclass(frozen=True)
class Findings:
    """Results of a study."""

    figure: "Figure"
    conclusion: str
    """Answer in words, generated from the results."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Metrics that support the conclusion, logged in the parent run."""
    texts: dict[str, str] = field(default_factory=dict)
    """Additional text artifacts, by file name."""


@dataclass(frozen=True)
class Study:
    """A study of an idea of the course."""

    name: str
    question: str
    """The question of the study, in one line."""
    run: Callable[["Laboratory"], Findings]


def names() -> list[str]:
    """Returns the names of all studies, sorted."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(studies.__path__))


def find(name: str) -> Study:
    """Returns the study with a name; raises `NotFound`, which lists all studies, if there is none."""
    if name not in names():
        raise NotFound(f"there is no study {name!r}; choose one of {', '.join(names())}")
    module = importlib.import_module(f"{studies.__name__}.{_stem(name)}")
    return Study(name, _question(name), module.run)


def listing() -> list[dict[str, Any]]:
    """Returns each study with its question, without importing the studies."""
    return [{"study": name, "question": _question(name)} for name in names()]


def conduct(name: str, effort: float = 1.0) -> dict[str, Any]:
    """Runs a study as a parent run with nested runs; returns the results as a row of plain values.

    `effort` scales epochs and repetitions: 1 for a figure to present, less for a quick look.
    """
    study = find(name)
    from training import tracking
    from training.laboratory import Laboratory

    with tracking.run(f"study {name}", f"study-{name}", system_metrics=False) as log:
        log.tags({"study": name, "question": study.question})
        log.params({"effort": effort})
        laboratory = Laboratory(name, log.run_id, effort)
        findings = study.run(laboratory)
        log.points({metric: [(0, value)] for metric, value in findings.metrics.items()})
        log.figures({name: findings.figure})
        for path, text in {"conclusion.md": findings.conclusion, **findings.texts}.items():
            log.text(text, path)
        # MLflow shows this tag as the run's description.
        log.tags({"mlflow.note.content": f"**{study.question}**\n\n{findings.conclusion}"})
        return {
            "study": name,
            "runs": laboratory.runs,
            "conclusion": findings.conclusion,
            "figure": _location(log, f"figures/{name}.png"),
            "run_id": log.run_id,
        }


def _stem(name: str) -> str:
    return name.replace("-", "_")


def _question(name: str) -> str:
    path = Path(studies.__path__[0]) / f"{_stem(name)}.py"
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if docstring is None:
        raise ValueError(f"{path.name} needs a docstring whose first line states its question")
    return docstring.splitlines()[0]


def _location(log: "RunLog", artifact: str) -> str:
    """Returns the path of an artifact if the store is local, otherwise its URI."""
    uri: str = log.client.get_run(log.run_id).info.artifact_uri
    parsed = urlparse(f"{uri}/{artifact}")
    return url2pathname(parsed.path) if parsed.scheme in ("", "file") else parsed.geturl()
