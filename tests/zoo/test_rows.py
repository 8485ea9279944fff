"""Table rows in either form: in the order of the features, or by their names."""

from typing import Any

import pytest
from pydantic import ValidationError

from zoo.errors import InvalidInput
from zoo.tasks.rows import RowsRequest, rows_to_features
from zoo.tasks.tabular_classification import TabularClassification
from zoo.tasks.tabular_regression import TabularRegression

NAMES = ("height", "weight")
IN_ORDER = [[1.0, 2.0], [3, 4], [-5.5, 6.0]]


def features(rows: list[Any]) -> list[list[float]]:
    request = RowsRequest.model_validate({"model": "m", "rows": rows})
    values: list[list[float]] = rows_to_features(request.rows, NAMES).tolist()
    return values


def test_rows_of_both_forms_may_be_mixed() -> None:
    assert all(
        issubclass(task.request_type, RowsRequest) for task in (TabularRegression, TabularClassification)
    )
    for named in range(2 ** len(IN_ORDER)):
        rows = [
            {"weight": row[1], "height": row[0]} if named >> i & 1 else row for i, row in enumerate(IN_ORDER)
        ]
        assert features(rows) == IN_ORDER


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"height": 3.0}, r"rows\[1\] lacks \['weight'\]"),
        ({"height": 3.0, "weight": 1.0, "age": 2.0}, r"rows\[1\] has unknown features \['age'\]"),
        ([1.0], r"rows\[1\] has 1 values; expected 2"),
        ([], r"rows\[1\] has 0 values; expected 2"),
        ([1.0, 1e39], r"rows\[1\]: 'weight' is beyond the range"),
    ],
)
@pytest.mark.parametrize("first", [[1.0, 2.0], {"height": 1.0, "weight": 2.0}])
def test_a_row_that_does_not_fit(first: Any, row: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        features([first, row])


@pytest.mark.parametrize(
    "row",
    [3.0, None, True, "1,2", [1.0, True], [1.0, None], [1.0, "2"], [1.0, [2.0]], [[1.0], [2.0]]]
    + [{"height": 1.0, "weight": wrong} for wrong in (True, None, "2", [2.0], {"kg": 2.0})],
)
@pytest.mark.parametrize("first", [[1.0, 2.0], {"height": 1.0, "weight": 2.0}])
def test_what_is_no_row_of_numbers(first: Any, row: Any) -> None:
    with pytest.raises(ValidationError, match=r"rows.1\."):
        features([first, row])
