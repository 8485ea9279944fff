"""Every model of the tests' registry by the Open Inference Protocol: as its typed endpoint answers."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from tiny_zoo import (
    write_classification,
    write_copier,
    write_corner,
    write_forecaster,
    write_generator,
    write_images,
    write_photos,
    write_regression,
    write_writer,
)

from zoo.tasks import TASKS

WRITERS = {
    "linear_regression-diabetes": write_regression,
    "perceptron-iris": write_classification,
    "lenet5-mnist": write_images,
    "mlp-mnist": write_images,
    "gan-mnist": write_generator,
    "mlp-corner": write_corner,
    "alexnet-photos": write_photos,
    "lstm-sales": write_forecaster,
    "rnn-letters": write_writer,
    "transformer-echo": write_copier,
}
TEXT_MODELS = ("rnn-letters", "transformer-echo")


def test_the_table_is_complete(client: httpx.Client) -> None:
    """Each kind of task is in it."""
    kinds = {client.get(f"/models/{name}").json()["kind"] for name in WRITERS}
    assert kinds == set(TASKS)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("name", [name for name in WRITERS if name not in TEXT_MODELS])
def test_raw_tensors_are_what_the_typed_endpoint_makes_of_a_request(
    client: httpx.Client, tmp_path: Path, name: str, binary: bool
) -> None:
    task = WRITERS[name](tmp_path / "made", name=name).task
    entry = client.get(f"/models/{name}").json()
    golden = {k: v for k, v in entry["example_request"].items() if k != "model"}
    typed = client.post(
        entry["endpoint"], json={"model": name, **golden}, headers={"Accept": "application/json"}
    )
    assert typed.status_code == 200, typed.text
    request = task.request_type.model_validate({"model": name, **golden})
    arrays = task.encode(request)
    datatypes = {tensor["name"]: tensor["datatype"] for tensor in entry["inputs"]}
    inputs, chunks = [], []
    for key, array in arrays.items():
        tensor = {"name": key, "datatype": datatypes[key], "shape": list(array.shape)}
        if binary:
            chunks.append(array.tobytes())
            tensor["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            tensor["data"] = array.tolist()
        inputs.append(tensor)
    head = json.dumps({"inputs": inputs}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    path = f"/v2/models/{name}/versions/1/infer"
    response = client.post(path, content=b"".join([head, *chunks]), headers=headers)
    assert response.status_code == 200, response.text
    answer = response.json()
    outputs = {o["name"]: np.array(o["data"]).reshape(o["shape"]) for o in answer["outputs"]}
    decoded = task.decode(request, outputs)
    expected = typed.json()
    assert answer["parameters"] == expected.pop("lineage")
    assert task.agrees(decoded, expected)


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_texts_are_what_the_typed_endpoint_writes(client: httpx.Client, name: str) -> None:
    entry = client.get(f"/models/{name}").json()
    golden = entry["example_request"]
    typed = client.post(entry["endpoint"], json=golden).json()
    text = golden.get("prompt", golden.get("text"))
    options = {key: value for key, value in golden.items() if key not in ("model", "prompt", "text")}
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": [text]}
    body = {"inputs": [tensor], "parameters": options}
    answer = client.post(f"/v2/models/{name}/infer", json=body).json()
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("text_output", "BYTES", [1])
    assert output["data"] == typed.get("texts", [typed.get("text")])
    assert answer["parameters"] == typed["lineage"]
