"""Any CSV file with a named target."""

import logging
from pathlib import Path

import numpy as np
import pytest

from training.datasets.csv_file import dataset_name, load_table
from zoo.errors import InvalidInput, NotFound, ZooError

HOUSES = "Living Area,rooms,Sale Price\n" + "".join(f"{50 + i},{i % 4},{100.5 + 2 * i}\n" for i in range(30))
FLOWERS = "petal length,petal width,kind of flower\n" + "".join(
    f"{i % 5}.5,{i % 3}.25,{'rose' if i % 2 else 'wild rose'}\n" for i in range(40)
)


@pytest.fixture
def write(tmp_path: Path):
    def written(text: str | bytes, name: str = "My Houses.csv") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return f"csv:{path}"

    return written


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("csv:/data/houses.csv", "houses"),
        ("csv:My Houses (2024).csv", "my-houses-2024"),
        ("csv:a_b.c.csv", "a-b-c"),
        ("csv:données.CSV", "donn-es"),
        ("csv:___.csv", "csv"),
        ("diabetes", "diabetes"),
    ],
)
def test_names(reference: str, name: str) -> None:
    assert dataset_name(reference) == name


def test_numbers_make_it_regression(write) -> None:
    data = load_table(write(HOUSES), "Sale Price")
    assert data.kind == "tabular_regression"
    assert data.name == "my-houses"
    assert data.schema.feature_names == ("Living Area", "rooms")
    assert data.schema.target == "Sale Price"
    assert data.train["features"].shape == (24, 2)
    np.testing.assert_allclose(data.train["target"], 2 * data.train["features"][:, 0] + 0.5)


def test_words_make_it_classification(write) -> None:
    data = load_table(write(FLOWERS), "kind of flower")
    assert data.kind == "tabular_classification"
    assert data.schema.labels == ("rose", "wild rose")
    assert data.train["target"].dtype == np.int64
    assert data.train["target"].mean() == data.test["target"].mean() == 0.5


def test_truth_values_are_two_classes(write) -> None:
    text = "x,ok\n" + "".join(f"{i},{i % 2 == 0}\n" for i in range(20))
    assert load_table(write(text), "ok").schema.labels == ("False", "True")


def test_rows_that_lack_values_are_left_out(write, caplog: pytest.LogCaptureFixture) -> None:
    text = HOUSES.replace("\n51,", "\n,").replace(",102.5\n", ",\n")
    with caplog.at_level(logging.WARNING):
        data = load_table(write(text), "Sale Price")
    left_out = 1
    assert len(data.train["target"]) + len(data.test["target"]) == 30 - left_out
    assert f"left out {left_out} of 30 rows" in caplog.text


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        (HOUSES, None, "name the column to predict with --target.*'Sale Price'"),
        (HOUSES, "price", "name the column to predict with --target.*'Sale Price'"),
        (FLOWERS, "petal length", "features must be numeric.*'kind of flower'"),
        ("a,b\n1,2\n3,4\n", "b", "2 complete rows; at least 10"),
        ("b\n" + "1\n" * 20, "b", "features must be numeric columns.*there are none"),
        ("", "b", "is not a CSV file with a header"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe\x00,", "b", "is not a CSV file with a header"),
        ("a,b\n1,2\n3,4,5,6\n", "b", "is not a CSV file with a header"),
        ("a,b\n" + "1,x\n" * 20 + "2,y\n", "b", "class 'y' of 'b' has 1 row"),
        ("a,b\n" + "1,x\n" * 20, "b", "has 1 classes in 20 rows"),
        ("a,b\n" + "".join(f"{i},id{i // 2}\n" for i in range(20)), "b", "has 10 classes in 20 rows"),
        ("a,b\n" + "1,2\n" * 20 + "inf,3\n", "b", "infinite"),
    ],
    ids=lambda value: repr(value)[:25] if isinstance(value, str | bytes) else "",
)
def test_what_does_not_fit_is_said(write, text: str, target: str | None, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_table(write(text), target)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        load_table(f"csv:{tmp_path / 'none.csv'}", "a")


def test_an_unknown_data_set_lists_the_known() -> None:
    with pytest.raises(ZooError, match=r"no data set 'mnits'; choose one of breast-cancer.*or csv:PATH"):
        load_table("mnits", None)
