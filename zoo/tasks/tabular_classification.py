"""Tabular classification: rows of features to one label each.

Shape legend: N rows, F features, K classes.
"""

from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from zoo.tasks.agreement import alike_labels
from zoo.tasks.base import Arrays, Response, Run, Schema, Task, run_in_batches
from zoo.tasks.baseline import MOST_NUMBERS, feature_baseline
from zoo.tasks.labels import ClassifyResponse, classification_metrics, label_predictions
from zoo.tasks.rows import RowsRequest, example_features, fit_scaling, rows_to_features


class TabularClassification(Task):
    """Graph: `features` float32 [N, F] in their own units -> `probabilities` float32 [N, K]."""

    kind: Literal["tabular_classification"] = "tabular_classification"
    feature_names: tuple[str, ...]
    labels: tuple[str, ...]
    feature_mean: tuple[float, ...]
    feature_std: tuple[float, ...]

    endpoint: ClassVar[str] = "/classify"
    payload: ClassVar[str | None] = "rows"
    primary_metric: ClassVar[str] = "accuracy"
    higher_is_better: ClassVar[bool] = True
    request_type: ClassVar[type[RowsRequest]] = RowsRequest
    response_type: ClassVar[type[Response]] = ClassifyResponse
    inputs: ClassVar[tuple[str, ...]] = ("features",)
    outputs: ClassVar[tuple[str, ...]] = ("probabilities",)

    @classmethod
    def fit(cls, train: Arrays, schema: Schema) -> Self:
        mean, std = fit_scaling(train["features"])
        return cls(
            feature_names=schema.feature_names, labels=schema.labels, feature_mean=mean, feature_std=std
        )

    def encode(self, request: RowsRequest) -> Arrays:
        return {"features": rows_to_features(request.rows, self.feature_names)}

    def decode(self, request: RowsRequest, outputs: Arrays) -> dict[str, Any]:
        return {"predictions": label_predictions(outputs["probabilities"], self.labels)}

    def alike(self, outputs: Arrays, other: Self, others: Arrays) -> NDArray[np.bool_]:
        """Returns for each example True if both versions favour the same label."""
        ours, theirs = outputs["probabilities"], others["probabilities"]
        return alike_labels(ours, self.labels, theirs, other.labels)

    def request_for(self, examples: Arrays, model: str) -> dict[str, Any]:
        return {"model": model, "rows": examples["features"].tolist()}

    def example_inputs(self, batch: int) -> Arrays:
        return {"features": example_features(self.feature_mean, self.feature_std, batch)}

    def evaluate(self, run: Run, split: Arrays) -> dict[str, float]:
        outputs = run_in_batches(run, {"features": split["features"].astype(np.float32)})
        return classification_metrics(split["target"], outputs["probabilities"])

    def baseline(self, train: Arrays) -> dict[str, Any]:
        return feature_baseline(train["features"], self.feature_names)

    def observed_names(self) -> tuple[str, ...]:
        return self.feature_names[:MOST_NUMBERS]

    def observed(self, asked: NDArray[Any]) -> NDArray[Any]:
        return asked[:, :MOST_NUMBERS, None]
