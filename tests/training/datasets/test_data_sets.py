"""Every data set that packages carry: splits, digests, and tasks that are fitted on training rows alone."""

import re
from dataclasses import replace

import numpy as np
import pytest
from quick_training import FETCHED, raw

from training import datasets
from training.datasets import Data, hold_out
from training.datasets.base import split_examples
from zoo.tasks import TASKS, Arrays, Schema

CARRIED = [name for name in datasets.names() if name not in FETCHED]
SERIES = {name for name in CARRIED if datasets.find(name).kind == "forecasting"}  # split in order of time
TEXTS = {  # see test_text_data.py
    name for name in CARRIED if datasets.find(name).kind in ("language_modelling", "sequence_to_sequence")
}
EXAMPLES = [name for name in CARRIED if name not in SERIES | TEXTS]
DIGEST = re.compile(r"[0-9a-f]{64}")


def rows(split: Arrays) -> set[bytes]:
    names = sorted(name for name in split if name != "target")
    return {b"".join(np.ascontiguousarray(split[n][i]).tobytes() for n in names) for i in range(size(split))}


def size(split: Arrays) -> int:
    return len(split["target"])


def test_table_is_complete() -> None:
    needs_fetching = {name for name in datasets.names() if not datasets.find(name).present()}
    assert needs_fetching == FETCHED


@pytest.mark.parametrize("name", datasets.names())
def test_description(name: str) -> None:
    found = datasets.find(name)
    assert found.name == name
    assert found.kind in TASKS
    assert all((found.size, found.licence, found.source))


@pytest.mark.parametrize("name", [*EXAMPLES, *sorted(SERIES)])
def test_data_are_as_described(name: str) -> None:
    data = raw(name)
    assert (data.name, data.kind, data.source) == (name, datasets.find(name).kind, datasets.find(name).source)
    task = TASKS[data.kind]
    for split in (data.train, data.test):
        assert set(split) == ({"target"} if name in SERIES else {*task.inputs, "target"})
        assert len({len(array) for array in split.values()}) == 1
    if data.schema.labels:
        assert set(data.train["target"]) == set(data.test["target"]) == set(range(len(data.schema.labels)))
    if data.schema.feature_names:
        columns = data.train["target" if name in SERIES else "features"]
        assert columns.shape[1] == len(data.schema.feature_names)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_fifth_is_kept_for_testing(name: str) -> None:
    data = raw(name)
    total = size(data.train) + size(data.test)
    assert size(data.test) == -(-total // 5)


@pytest.mark.parametrize("target", [np.arange(100.0), np.arange(100) % 4], ids=["values", "classes"])
def test_every_example_is_in_one_split(target: np.ndarray) -> None:
    inputs = {"features": np.arange(100.0)[:, None]}
    data = hold_out(split_examples("n", "k", Schema(), "s", inputs, target), 0.1, seed=0)
    assert data.validation
    splits = (data.train, data.validation, data.test)
    assert sorted(np.concatenate([split["features"][:, 0] for split in splits])) == list(range(100))
    for split in splits:
        np.testing.assert_array_equal(split["target"], target[split["features"][:, 0].astype(int)])
    if target.dtype.kind == "i":
        assert (np.bincount(data.test["target"]) == 5).all(), "classes are not in proportion"


def test_diabetes_is_split_as_the_reference() -> None:
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split

    table = load_diabetes()
    _, test, _, target = train_test_split(table.data, table.target, test_size=0.2, random_state=42)
    np.testing.assert_array_equal(raw("diabetes").test["features"], test)
    np.testing.assert_array_equal(raw("diabetes").test["target"], target)


@pytest.mark.parametrize("name", [*EXAMPLES, *sorted(SERIES)])
def test_digest_is_stable_and_sees_every_array(name: str) -> None:
    data = raw(name)
    assert DIGEST.fullmatch(data.digest)
    assert datasets.find(name).load().digest == data.digest
    for split in ("train", "test"):
        for key, array in getattr(data, split).items():
            changed = array.copy()
            changed[0] = changed[0] + 1
            altered = Data(**(shallow(data) | {split: getattr(data, split) | {key: changed}}))
            assert altered.digest != data.digest, f"{split} {key}"


def shallow(data: Data) -> dict[str, object]:
    names = ("name", "kind", "schema", "source", "train", "test", "validation")
    return {name: getattr(data, name) for name in names}


@pytest.mark.parametrize("share", [0.1, 1 / 12, 0.5])
def test_validation_split_is_seeded_and_disjoint(share: float) -> None:
    data = raw("diabetes")
    once, again, other = (hold_out(data, share, seed) for seed in (0, 0, 1))
    assert once.validation
    assert again.validation
    assert other.validation
    assert size(once.validation) == round(size(data.train) * share)
    assert not rows(once.train) & rows(once.validation)
    assert rows(once.train) | rows(once.validation) == rows(data.train)
    np.testing.assert_array_equal(once.validation["features"], again.validation["features"])
    assert rows(once.validation) != rows(other.validation)
    assert once.test is data.test


def test_no_share_no_validation_split() -> None:
    assert hold_out(raw("diabetes"), 0.0, 0) is raw("diabetes")


def test_a_validation_split_of_its_own_is_kept() -> None:
    data = hold_out(raw("diabetes"), 0.2, 0)
    assert hold_out(data, 0.5, 1) is data


def test_the_digest_is_of_the_data_not_of_how_a_run_splits_them() -> None:
    """Versions that differ in seed or validation share compare on the same data."""
    data = raw("diabetes")
    assert hold_out(data, 0.1, 0).digest == hold_out(data, 0.2, 1).digest == data.digest


@pytest.mark.parametrize("name", EXAMPLES)
def test_tasks_are_fitted_on_the_training_split(name: str) -> None:
    data = raw(name)
    task = TASKS[data.kind].fit(data.train, data.schema)
    doubled = {key: array * 2 for key, array in data.test.items()}
    other = TASKS[data.kind].fit(replace(data, test=doubled).train, data.schema)
    assert other == task
    inputs = data.train[task.inputs[0]].astype(np.float64)
    state = task.model_dump()
    if data.kind == "image_classification":
        mean, std = inputs.mean(axis=(0, 1, 2)), inputs.std(axis=(0, 1, 2))
        np.testing.assert_allclose(state["pixel_mean"], mean)
        np.testing.assert_allclose(state["pixel_std"], std)
    else:
        np.testing.assert_allclose(state["feature_mean"], inputs.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(state["feature_std"], inputs.std(axis=0))
    if data.kind == "tabular_regression":
        assert state["target_mean"] == pytest.approx(data.train["target"].mean())
        assert state["target_std"] == pytest.approx(data.train["target"].std())
