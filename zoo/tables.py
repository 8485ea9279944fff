"""Terminal tables of the command line's listings, readable at 80 columns."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo.terminal import printable
from zoo.version import FP32

Rows = Sequence[Mapping[str, Any]]


def show(rows: Any, as_json: bool, table: Callable[[Any], None]) -> None:
    """Prints plain values as one JSON document, or as a table."""
    if as_json:
        print(json.dumps(rows))
    else:
        table(printable(rows))


def show_rows(title: str, rows: Rows) -> None:
    """Prints rows of plain values as a table, one column per key."""
    if not rows:
        Console().print(f"{title}: none yet")
        return
    _print(title, dict.fromkeys(rows[0], "left"), ([as_text(v) for v in row.values()] for row in rows))


def show_record(record: Mapping[str, Any]) -> None:
    """Prints one record, one line per key."""
    width = max(map(len, record))
    for name, value in record.items():
        Console().print(
            f"{name.replace('_', ' '):<{width}}  {as_text(value)}", highlight=False, soft_wrap=True
        )


def show_predictions(answer: Mapping[str, Any]) -> None:
    """Prints one line per prediction: its label with the largest probabilities, or its value with the unit.

    For a forecast, prints one line per step: the value of each variable and its interval. Prints texts as
    they are.
    """
    if "texts" in answer:
        lines = [escape(text) for text in answer["texts"]]
    elif "forecast" in answer:
        lines = _steps_ahead(answer)
    else:
        lines = [_prediction(p) for p in answer["predictions"]]
    for line in lines:
        Console().print(line, highlight=False)
    lineage = answer["lineage"]
    about = f"{lineage['model']} version {lineage['version']}"
    Console().print(about, style="dim", highlight=False, markup=False)


def show_challenge(report: Mapping[str, Any]) -> None:
    """Prints champion and challenger side by side, one line per figure."""
    champion, challenger = report["champion"], report["challenger"]
    names = [name for name in champion if name != "metrics"]
    lines = [[name.replace("_", " "), as_text(champion[name]), as_text(challenger[name])] for name in names]
    metrics = dict.fromkeys([*champion["metrics"], *challenger["metrics"]])
    for name in metrics:
        values = (as_text(side["metrics"].get(name)) for side in (champion, challenger))
        lines.append([f"test {name}", *values])
    share = f"{report['share']:.4g} of the requests" if report["share"] else "in the shadow"
    columns = {"": "left", "champion": "right", "challenger": "right"}
    _print(f"{report['model']}: the challenger, {share}", columns, lines)
    if report["agreement"] is not None:
        Console().print(f"alike: {report['agreement']:.4f} of {report['compared']:,}", highlight=False)


def _prediction(prediction: Mapping[str, Any]) -> str:
    if "label" not in prediction:
        return f"[bold]{prediction['value']:.6g}[/] {escape(prediction['unit'])}"
    likeliest = sorted(prediction["probabilities"].items(), key=lambda item: -item[1])[:3]
    others = ", ".join(f"{label} {probability:.3f}" for label, probability in likeliest)
    return f"[bold]{escape(prediction['label'])}[/]  ({escape(others)})"


def _steps_ahead(answer: Mapping[str, Any]) -> list[str]:
    """Returns one line per step of a forecast in rows, the form that the command line requests."""
    steps = zip(answer["forecast"], answer["lower"], answer["upper"], strict=True)
    return [
        "   ".join(f"[bold]{v:.6g}[/] ({low:.6g} to {high:.6g})" for v, low, high in zip(*step, strict=True))
        for step in steps
    ]


def show_architectures(rows: Rows) -> None:
    """Prints architectures with their data sets and champions side by side."""

    def cells(row: Mapping[str, Any]) -> list[str]:
        champions = {c["dataset"]: c for c in row["champions"]}
        about = f"[bold]{row['architecture']}[/]\n{row['paper']}\n{row['parameters']:,} parameters"
        datasets = list(dict.fromkeys([*row["datasets"], *champions]))
        held = [champions.get(name) for name in datasets]
        found = [f"{c['metric']} {as_text(c['value'])} (v{c['version']})" if c else "-" for c in held]
        kinds = "\n".join(kind.replace("_", " ") for kind in row["kinds"])
        return [about, kinds, "\n".join(datasets), "\n".join(found)]

    _print(
        "Architectures",
        dict.fromkeys(("architecture", "kinds", "data set", "champion"), "left"),
        map(cells, rows),
    )


def show_data_sets(rows: Rows) -> None:
    """Prints data sets, without their kinds."""
    columns = ("dataset", "size", "licence", "source", "present")
    lines = ([as_text(row[name]) for name in columns] for row in rows)
    _print("Data sets", dict.fromkeys(("data set", *columns[1:]), "left"), lines)


def show_leaderboard(rows: Rows) -> None:
    """Prints one table per data set and metric; marks champions with ★, and explains failed gates."""
    if not rows:
        Console().print("No versions yet: zoo train trains one")
    titles = ("v", "value", "seed", "params", "train", "KB", "ms")
    columns = {"": "left", "model": "left", **dict.fromkeys(titles, "right")}
    for (dataset, metric), group in groupby(rows, lambda row: (row["dataset"], row["metric"])):
        lines, refused = [], []
        for row in group:
            mark = "★" if row["champion"] else "✗" if row["gate"] == "failed" else ""
            lines.append(
                [
                    mark,
                    as_text(row["model"] if row["variant"] == FP32 else f"{row['model']} {row['variant']}"),
                    as_text(row["version"]),
                    as_text(row["value"]),
                    str(row["seed"]),
                    short(row["parameters"]),
                    f"{row['train_seconds']:.1f} s",
                    short(row["onnx_bytes"] / 1000),
                    f"{row['latency_ms']:.3f}",
                ]
            )
            if row["gate"] == "failed":
                refused.append(f"✗ {row['model']} version {row['version']}: {row['gate_reason']}")
        _print(f"{dataset}: {metric}", columns, lines)
        for line in refused:
            Console().print(f"  {line}", highlight=False, markup=False)


def short(number: float) -> str:
    """Formats a number with three digits and a unit: 61.7k, 1.33M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def as_text(value: Any) -> str:
    """Formats a value as a table cell, in rich's markup."""
    if isinstance(value, list):
        return "\n".join(as_text(item) for item in value)
    if isinstance(value, dict):
        return " ".join(f"{key} {as_text(item)}" for key, item in value.items())
    if isinstance(value, bool) or value is None:
        return "yes" if value else "no" if value is False else ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def _print(title: str, columns: Mapping[str, Any], lines: Iterable[list[str]]) -> None:
    table = Table(
        title=escape(title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name, justify in columns.items():
        table.add_column(name.replace("_", " "), justify=justify, no_wrap=name == "model")
    for line in lines:
        table.add_row(*line)
    Console().print(table)
