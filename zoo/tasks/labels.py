"""Answers that are labels with probabilities, shared by the classification kinds.

Shape legend: N examples, K classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from zoo import metrics
from zoo.tasks.base import Response


class Prediction(BaseModel):
    """The most probable label, and probabilities by label, largest first."""

    label: str
    probabilities: dict[str, float]


class ClassifyResponse(Response):
    """One prediction a row or image, in request order."""

    predictions: list[Prediction]


def label_predictions(
    probabilities: NDArray[Any], labels: tuple[str, ...], top_k: int | None = None
) -> list[dict[str, Any]]:
    """For each row of [N, K] its label and its `top_k` (all unless given) probabilities."""
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    of_ranked = np.take_along_axis(probabilities, ranked, axis=1)
    return [
        {"label": labels[row[0]], "probabilities": {labels[k]: p for k, p in zip(row, ps, strict=True)}}
        for row, ps in zip(ranked.tolist(), of_ranked.tolist(), strict=True)
    ]


def classification_metrics(target: NDArray[Any], probabilities: NDArray[Any]) -> dict[str, float]:
    """Accuracy, macro F1 and log loss of [N, K] probabilities against [N] class indices."""
    classes = probabilities.shape[1]
    return {
        "accuracy": metrics.accuracy(target, probabilities),
        "macro_f1": metrics.macro_f1(target, probabilities.argmax(axis=1), classes),
        "log_loss": metrics.log_loss(target, probabilities),
    }
