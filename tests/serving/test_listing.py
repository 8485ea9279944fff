"""Listings, probes and pages, and what stands in the header of every answer."""

import re

import httpx
import pytest

ENTRY = {
    *("name", "kind", "dataset", "architecture", "alias_of", "metrics", "primary_metric"),
    *("endpoint", "example_request", "lineage"),
}
DETAILS = ENTRY | {"versions", "inputs", "outputs", "execution", "card", "drift"}
NAMES = {
    "linear_regression-diabetes": None,
    "perceptron-iris": None,
    "lenet5-mnist": None,
    "mlp-mnist": None,
    "gan-mnist": None,
    "mlp-corner": None,
    "alexnet-photos": None,
    "lstm-sales": None,
    "rnn-letters": None,
    "rnn-talk": None,
    "transformer-echo": None,
    "diabetes": "linear_regression-diabetes",
    "iris": "perceptron-iris",
    "sales": "lstm-sales",
    "letters": "rnn-letters",
    "talk": "rnn-talk",
    "echo": "transformer-echo",
    "mnist": "lenet5-mnist",
}


def test_every_entry_has_its_fields_and_an_example_that_succeeds(client: httpx.Client) -> None:
    entries = client.get("/models").json()["models"]
    assert NAMES.items() <= {entry["name"]: entry["alias_of"] for entry in entries}.items()
    for entry in entries:
        assert entry.keys() == ENTRY
        assert entry["primary_metric"] in entry["metrics"]
        assert entry["example_request"]["model"] == entry["name"]
        response = client.post(entry["endpoint"], json=entry["example_request"])
        assert response.status_code == 200
        assert response.json()["lineage"] == entry["lineage"]
        assert entry["lineage"]["model"] == (entry["alias_of"] or entry["name"])


def test_details(client: httpx.Client) -> None:
    details = client.get("/models/lenet5-mnist").json()
    assert details.keys() == DETAILS
    execution = details["execution"]
    assert (execution["mode"], execution["max_batch_rows"]) == ("inline", 64)
    assert 0 < execution["row_seconds"] < 0.001
    texts = client.get("/models/rnn-letters").json()["execution"]
    assert texts == {"mode": "sliced", "row_seconds": None, "max_batch_rows": None}
    assert details["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 1]}]
    assert details["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]
    assert details["card"].startswith("# lenet5-mnist")
    alias = client.get("/models/mnist").json()
    assert {**alias, "name": 0, "alias_of": 0, "example_request": 0} == {
        **details,
        **{"name": 0, "alias_of": 0, "example_request": 0},
    }


def test_a_version_that_failed_its_gate_is_listed_with_the_reason(client: httpx.Client) -> None:
    newest, oldest = client.get("/models/linear_regression-diabetes").json()["versions"]
    assert newest == {
        "version": "2",
        "aliases": [],
        "state": "refused",
        "reason": "mse 9000 is not below 3500",
        "metrics": {"mse": 9000.0},
    }
    assert (oldest["version"], oldest["aliases"], oldest["state"]) == ("1", ["champion"], "serving")


@pytest.mark.parametrize(
    "name",
    [
        "nope",
        "",
        "%2e%2e",
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "a%00b",
        "x" * 5000,
        "%ff",
        "a/b",
    ],
)
def test_no_such_model(client: httpx.Client, name: str) -> None:
    path = httpx.URL(client.base_url).copy_with(raw_path=f"/models/{name}".encode())
    response = client.send(httpx.Request("GET", path))
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"
    assert "etc" not in response.json()["error"]


@pytest.mark.parametrize(
    "path", ["/models", "/models/mnist", "/livez", "/readyz", "/docs.json", "/schema.json", "/", "/docs"]
)
def test_head_is_get_without_the_body(client: httpx.Client, path: str) -> None:
    plain = {"Accept-Encoding": "identity"}
    got, head = client.get(path, headers=plain), client.head(path, headers=plain)
    assert got.status_code == head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content))


def test_openapi_has_the_examples_and_no_dangling_references(client: httpx.Client) -> None:
    response = client.get("/docs.json")
    document = response.json()
    assert document["openapi"].startswith("3.1")
    for path in ("/regress", "/classify", "/generate_images", "/explain_image", "/classify_image"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        for example in content["application/json"]["examples"].values():
            assert client.post(path, json=example["value"]).status_code == 200
        assert content["application/json"]["examples"]
    assert "multipart/form-data" in content
    for name in re.findall(r'"#/components/schemas/([^"]+)"', response.text):
        assert name in document["components"]["schemas"]


@pytest.mark.parametrize("path", ["/models", "/livez", "/nowhere", "/", "/docs", "/regress"])
def test_request_ids(client: httpx.Client, path: str) -> None:
    mine = {"X-Request-Id": "Trace-7_a.b"}
    assert client.get(path, headers=mine).headers["x-request-id"] == "Trace-7_a.b"
    for insane in ("", "a b", "x" * 129, "<script>", "é".encode()):
        given = client.get(path, headers={"X-Request-Id": insane}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", given)
