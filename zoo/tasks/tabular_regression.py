"""Tabular regression: rows of features to one value each, in its own unit.

Shape legend: N rows, F features.
"""

from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from zoo import metrics
from zoo.tasks.agreement import alike_values
from zoo.tasks.base import Arrays, Response, Run, Schema, Task, run_in_batches
from zoo.tasks.baseline import MOST_NUMBERS, feature_baseline
from zoo.tasks.rows import RowsRequest, example_features, fit_scaling, rows_to_features


class Value(BaseModel):
    """One predicted value."""

    value: float
    unit: str


class RegressResponse(Response):
    """One prediction per row, in request order."""

    predictions: list[Value]


class TabularRegression(Task):
    """Graph: `features` float32 [N, F] in their own units -> `value` float32 [N] in the target's unit."""

    kind: Literal["tabular_regression"] = "tabular_regression"
    feature_names: tuple[str, ...]
    target: str
    unit: str
    feature_mean: tuple[float, ...]
    feature_std: tuple[float, ...]
    target_mean: float
    target_std: float

    endpoint: ClassVar[str] = "/regress"
    payload: ClassVar[str | None] = "rows"
    primary_metric: ClassVar[str] = "mse"
    higher_is_better: ClassVar[bool] = False
    request_type: ClassVar[type[RowsRequest]] = RowsRequest
    response_type: ClassVar[type[Response]] = RegressResponse
    inputs: ClassVar[tuple[str, ...]] = ("features",)
    outputs: ClassVar[tuple[str, ...]] = ("value",)

    @classmethod
    def fit(cls, train: Arrays, schema: Schema) -> Self:
        feature_mean, feature_std = fit_scaling(train["features"])
        (target_mean,), (target_std,) = fit_scaling(train["target"][:, None])
        return cls(
            feature_names=schema.feature_names,
            target=schema.target,
            unit=schema.unit,
            feature_mean=feature_mean,
            feature_std=feature_std,
            target_mean=target_mean,
            target_std=target_std,
        )

    def encode(self, request: RowsRequest) -> Arrays:
        return {"features": rows_to_features(request.rows, self.feature_names)}

    def decode(self, request: RowsRequest, outputs: Arrays) -> dict[str, Any]:
        return {"predictions": [{"value": v, "unit": self.unit} for v in outputs["value"].tolist()]}

    def alike(self, outputs: Arrays, other: Self, others: Arrays) -> NDArray[np.bool_]:
        """Returns for each row True if the values are about the same."""
        return alike_values(outputs["value"][:, None], others["value"][:, None], (self.target_std,))

    def request_for(self, examples: Arrays, model: str) -> dict[str, Any]:
        return {"model": model, "rows": examples["features"].tolist()}

    def example_inputs(self, batch: int) -> Arrays:
        return {"features": example_features(self.feature_mean, self.feature_std, batch)}

    def evaluate(self, run: Run, split: Arrays) -> dict[str, float]:
        features = split["features"].astype(np.float32)
        value = run_in_batches(run, {"features": features})["value"].astype(np.float64)
        mse = metrics.mean_squared_error(split["target"], value)
        return {
            "mse": mse,
            "rmse": mse**0.5,
            "mae": metrics.mean_absolute_error(split["target"], value),
            "r2": metrics.r_squared(split["target"], value),
        }

    def baseline(self, train: Arrays) -> dict[str, Any]:
        return feature_baseline(train["features"], self.feature_names)

    def observed_names(self) -> tuple[str, ...]:
        return self.feature_names[:MOST_NUMBERS]

    def observed(self, asked: NDArray[Any]) -> NDArray[Any]:
        return asked[:, :MOST_NUMBERS, None]
