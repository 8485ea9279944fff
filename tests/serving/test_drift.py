"""Drift: what is asked is compared with the training split, by whatever way it is asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from prometheus_client.parser import text_string_to_metric_families
from server import Server, running, wait_for
from tiny_zoo import (
    FEATURES,
    write_copier,
    write_digits,
    write_forecaster,
    write_generator,
    write_regression,
    write_writer,
)

from serving.drift import LARGE, LEAST_ROWS, WINDOW, Window, stability_index
from training.datasets import digits
from zoo.tasks import Arrays

DIGITS, TABLE, SERIES, TEXTS = "mlp-digits", "linear_regression-diabetes", "lstm-sales", "transformer-echo"


@pytest.fixture(scope="module")
def data() -> tuple[Arrays, Arrays]:
    loaded = digits.load()
    return loaded.train, loaded.test


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, data: tuple[Arrays, Arrays]) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("drift")
    write_digits(folder / "bundles" / "digits", data[0])
    for write in (write_copier, write_forecaster, write_generator, write_regression, write_writer):
        write(folder / "bundles" / write.__name__)
    with running(folder / "log", ZOO_BUNDLES=str(folder / "bundles")) as server:
        yield server


def drift_of(client: httpx.Client, model: str) -> Any:
    return client.get(f"/models/{model}").json()["drift"]


def measured(client: httpx.Client) -> dict[tuple[str, str], float]:
    """The page's rows by model, and PSI by model and feature."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if "drift" in sample.name]
    assert {sample.labels["version"] for sample in samples} == {"1"}
    return {
        (sample.labels["model"], sample.labels.get("feature", "rows")): sample.value for sample in samples
    }


def classify(client: httpx.Client, images: np.ndarray, path: str = "/classify_image") -> None:
    for begin in range(0, len(images), 100):
        body = {"model": DIGITS, "pixels": images[begin : begin + 100].tolist()}
        assert client.post(path, json=body).status_code == 200


@pytest.mark.slow
def test_the_test_split_does_not_drift_and_its_negatives_do(
    server: Server, client: httpx.Client, data: tuple[Arrays, Arrays]
) -> None:
    empty = {"window": 0, "psi": {}, "worst": None, "level": None}
    assert drift_of(client, DIGITS) == empty, "the golden request is no client's"
    images = data[1]["image"]
    for image in images[:3]:
        body = {"model": DIGITS, "pixels": image.tolist()}
        explained = client.post("/explain_image", json=body, headers={"Accept": "application/json"})
        assert explained.status_code == 200
    assert client.post("/classify_image", json={"model": DIGITS, "pixels": [[1]]}).status_code == 422
    assert drift_of(client, DIGITS) == empty, "an explanation asks about what nobody sent"

    few = LEAST_ROWS - 1
    classify(client, images[:few])
    assert drift_of(client, DIGITS) == {**empty, "window": few}
    classify(client, images[few:])
    drift = drift_of(client, DIGITS)
    assert (drift["window"], drift["worst"], drift["level"]) == (len(images), "channel_0", "none")
    assert 0 <= drift["psi"]["channel_0"] < 0.02
    assert measured(client)[DIGITS, "channel_0"] == drift["psi"]["channel_0"]
    assert measured(client)[DIGITS, "rows"] == len(images)
    assert "drifted" not in server.log.read_text()

    with triton.InferenceServerClient(server.url.removeprefix("http://")) as v2:
        negatives = np.concatenate([255 - images] * 3)
        asked = triton.InferInput("image", list(negatives.shape), "UINT8")
        asked.set_data_from_numpy(negatives)
        v2.infer("digits", [asked])
    drift = drift_of(client, DIGITS)
    assert drift["level"] == "large"
    assert drift["psi"]["channel_0"] > 2 * LARGE
    assert drift_of(client, "digits") == drift
    warning = f"{DIGITS}: the inputs have drifted, PSI"
    wait_for(lambda: warning in server.log.read_text())
    classify(client, 255 - images[:1])
    assert drift_of(client, DIGITS)["level"] == "large"

    for image in np.concatenate([images] * 3)[:WINDOW]:  # one by one, until the negatives are forgotten
        classify(client, image)
    assert drift_of(client, DIGITS)["window"] == WINDOW
    assert drift_of(client, DIGITS)["level"] == "none"
    assert server.log.read_text().count(warning) == 1


def test_tables_by_feature(client: httpx.Client) -> None:
    rows = np.random.default_rng(7).normal(5, 2, (600, 2))
    client.post("/regress", json={"model": TABLE, "rows": rows.tolist()})
    drift = drift_of(client, TABLE)
    assert drift["psi"].keys() == set(FEATURES)
    older = rows + np.array([9, 0])
    client.post("/regress", json={"model": TABLE, "rows": older.tolist()})
    drifted = drift_of(client, TABLE)
    assert (drifted["worst"], drifted["level"]) == ("age", "large")
    assert drifted["psi"]["age"] > drift["psi"]["age"] + LARGE
    assert drifted["psi"]["mass"] == pytest.approx(drift["psi"]["mass"], abs=0.05)
    page = measured(client)
    assert {feature: page[TABLE, feature] for feature in FEATURES} == drifted["psi"]


def test_series(client: httpx.Client) -> None:
    random = np.random.default_rng(8)
    for level in (100, 130):
        history = random.normal(level, 10, (WINDOW, 4, 1)).astype(np.float32)
        body = {"name": "history", "datatype": "FP32", "shape": list(history.shape)}
        for part in np.split(history, 10):
            tensor = {**body, "shape": list(part.shape), "data": part.ravel().tolist()}
            assert client.post(f"/v2/models/{SERIES}/infer", json={"inputs": [tensor]}).status_code == 200
        drift = drift_of(client, SERIES)
        assert drift["worst"] == "sales"
        assert (drift["level"] == "large") == (level == 130)
    for length in (4, 9):  # a history of another length counts as well, cut to what the model reads or not
        body = {"model": SERIES, "history": [100.0] * length}
        assert client.post("/forecast", json=body).status_code == 200


@pytest.mark.parametrize("way", ["typed", "infer"])
def test_texts(client: httpx.Client, way: str) -> None:
    texts = ["one two three", "four five", "six", "seven eight nine"] * 50
    for asked, level in ((texts * 5, "none"), (["zzz" * 20] * WINDOW, "large")):
        for begin in range(0, len(asked), 250):
            part = asked[begin : begin + 250]
            if way == "typed":
                path, body = "/transform_text", {"model": TEXTS, "text": part, "beam_size": 1}
            else:
                path = f"/v2/models/{TEXTS}/infer"
                tensor = {"name": "text_input", "datatype": "BYTES", "shape": [len(part)], "data": part}
                body = {"inputs": [tensor], "parameters": {"beam_size": 1}}
            assert client.post(path, json=body).status_code == 200
        drift = drift_of(client, TEXTS)
        assert drift["psi"].keys() == {"token", "length"}
        assert (drift["window"], drift["level"]) == (WINDOW, level)


def test_prompts(client: httpx.Client) -> None:
    for path in ("/generate_text", "/v2/models/rnn-letters/generate"):
        field = "text_input" if "v2" in path else "prompt"
        body = {field: "abc", "max_tokens": 1} | ({} if "v2" in path else {"model": "rnn-letters"})
        before = drift_of(client, "rnn-letters")["window"]
        assert client.post(path, json=body).status_code == 200
        assert drift_of(client, "rnn-letters")["window"] == before + 1


def test_inputs_that_are_drawn_cannot_drift(client: httpx.Client) -> None:
    assert drift_of(client, "gan-mnist") is None
    assert not any(model == "gan-mnist" for model, _ in measured(client))


def test_a_bundle_of_an_older_zoo(tmp_path: Path) -> None:
    """Its baseline has other names, or only some."""
    made = write_copier(tmp_path / "copier")
    window = Window("old", made.task, {"source": made.baseline["token"]})
    window.add(made.task.example_inputs(1))
    assert window.drift() is None
    window = Window("old", made.task, {"length": made.baseline["length"]})
    for _ in range(LEAST_ROWS):
        window.add(made.task.example_inputs(1))
    drift = window.drift()
    assert drift is not None
    assert drift.psi.keys() == {"length"}


def test_histories_of_several_lengths(tmp_path: Path) -> None:
    made = write_forecaster(tmp_path / "forecaster")
    window = Window("lstm-sales", made.task, made.baseline)
    for length in (4, 4, 9, 4):
        window.add({"history": np.full((3, length, 1), 100, np.float32)})
    window.add({"history": np.full((2 * WINDOW, 4, 1), 100, np.float32)})
    drift = window.drift()
    assert drift is not None
    assert drift.window == WINDOW


def test_rows_without_any_value(tmp_path: Path) -> None:
    made = write_forecaster(tmp_path / "forecaster")
    window = Window("lstm-sales", made.task, made.baseline)
    window.add({"history": np.full((WINDOW, 4, 1), np.nan, np.float32)})
    drift = window.drift()
    assert drift is not None
    assert (drift.window, drift.psi, drift.worst, drift.level) == (WINDOW, {}, None, None)


def test_the_index() -> None:
    p, q = np.array([0.5, 0.5]), np.array([0.8, 0.2])
    assert stability_index(p, p, 500) == 0
    assert stability_index(p, q, 10**9) == pytest.approx(0.3 * np.log(1.6) - 0.3 * np.log(0.4))
    new = stability_index(np.array([1.0, 0]), np.array([0, 1.0]), 1000)
    assert LARGE < new < 100, "a bin that was empty makes no infinity"


def test_a_baseline_is_small(tmp_path: Path) -> None:
    made = write_writer(tmp_path / "writer")
    size = (made.directory / "baseline.json").stat().st_size
    assert size < 2000
