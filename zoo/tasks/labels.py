"""Answers that consist of labels with probabilities, shared by the classification kinds.

Shape legend: N examples, K classes.
"""

from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel

from zoo import metrics
from zoo.errors import InvalidInput
from zoo.tasks.base import Response

NAMED = 32  # maximum number of labels that a message lists


class Prediction(BaseModel):
    """The most probable label, and probabilities by label, largest first."""

    label: str
    probabilities: dict[str, float]


class ClassifyResponse(Response):
    """One prediction per row or image, in request order."""

    predictions: list[Prediction]


def label_predictions(
    probabilities: NDArray[Any], labels: tuple[str, ...], top_k: int | None = None
) -> list[dict[str, Any]]:
    """Returns for each row of [N, K] its label and its `top_k` largest probabilities (all if None)."""
    return [_ranked(row, labels, top_k) for row in probabilities.tolist()]


def _ranked(row: list[float], labels: tuple[str, ...], top_k: int | None) -> dict[str, Any]:
    # Most requests are one row of a few classes; sorting a list then takes a tenth of numpy's time.
    best = sorted(range(len(row)), key=row.__getitem__, reverse=True)[:top_k]
    return {"label": labels[best[0]], "probabilities": {labels[k]: row[k] for k in best}}


def label_index(wanted: str | int, labels: tuple[str, ...], field: str) -> int:
    """Returns the class index of a label, or an index itself if no label has that text.

    Labels come first because forms cannot distinguish a label of digits from a number. Raises `InvalidInput`,
    which names the field and the labels.
    """
    if str(wanted) in labels:
        return labels.index(str(wanted))
    if isinstance(wanted, int) and 0 <= wanted < len(labels):
        return wanted
    more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
    raise InvalidInput(f"{field}: no such label; the model's labels are {', '.join(labels[:NAMED])}{more}")


def classification_metrics(target: NDArray[Any], probabilities: NDArray[Any]) -> dict[str, float]:
    """Returns accuracy, macro F1 and log loss of [N, K] probabilities against [N] class indices."""
    classes = probabilities.shape[1]
    return {
        "accuracy": metrics.accuracy(target, probabilities),
        "macro_f1": metrics.macro_f1(target, probabilities.argmax(axis=1), classes),
        "log_loss": metrics.log_loss(target, probabilities),
    }
