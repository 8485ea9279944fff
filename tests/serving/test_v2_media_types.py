"""V2 requests that declare no media type, as the protocol's examples with curl do, and those that must."""

import shutil
import struct
import subprocess
from codecs import BOM_UTF8

import httpx
import pytest
from requirement import require
from server import Server
from test_v2_errors import refused

INFER, GENERATE = "/v2/models/diabetes/infer", "/v2/models/rnn-letters/generate"
TENSOR = '{"name": "features", "datatype": "FP32", "shape": [1, 2], %s}'
JSON_BODY = b'{"inputs": [%b]}' % (TENSOR % '"data": [1, 2]').encode()
BINARY_HEAD = b'{"inputs": [%b]}' % (TENSOR % '"parameters": {"binary_data_size": 8}').encode()
BINARY = {"Inference-Header-Content-Length": str(len(BINARY_HEAD))}
TEXT = b'{"text_input": "a", "max_tokens": 2}'
STREAM = f"{GENERATE}_stream"
BODIES = [(INFER, JSON_BODY), (GENERATE, TEXT), (STREAM, TEXT)]
FORM = "application/x-www-form-urlencoded"
UNDECLARED = [None, FORM, FORM.title() + "; charset=UTF-8", ""]


def ask(client: httpx.Client, path: str, body: bytes, media_type: str | None, **more: str) -> httpx.Response:
    typed = {} if media_type is None else {"Content-Type": media_type}
    return client.post(path, content=body, headers={**typed, **more})


@pytest.mark.parametrize("media_type", UNDECLARED)
@pytest.mark.parametrize(("path", "body"), BODIES)
def test_undeclared_json_is_taken(
    client: httpx.Client, path: str, body: bytes, media_type: str | None
) -> None:
    for text in (body, b" \r\n\t" + body, BOM_UTF8 + b"\n" + body):
        assert ask(client, path, text, media_type).status_code == 200
    answer = ask(client, INFER, BINARY_HEAD + struct.pack("<2f", 1, 2), media_type, **BINARY)
    assert answer.json()["outputs"][0]["data"] == [6]


@pytest.mark.parametrize("media_type", UNDECLARED)
@pytest.mark.parametrize(("path", "body"), BODIES)
def test_undeclared_json_of_a_page_is_not(
    client: httpx.Client, path: str, body: bytes, media_type: str | None
) -> None:
    own = str(client.base_url)
    refused(ask(client, path, body, media_type, Origin=own), 415, "application/json")
    assert ask(client, path, body, "application/json", Origin=own).status_code == 200
    for origin in ("http://elsewhere", "null", ""):
        assert ask(client, path, body, media_type, Origin=origin).status_code == 403


@pytest.mark.parametrize(
    "body", [b"inputs=1", b"", b"[1]", b'"{}"', b"\x80\x04}q\x00.", b"%7B%7D", b"\xef{}", b"\x0b{}"]
)
@pytest.mark.parametrize("path", [INFER, GENERATE])
def test_a_form_is_not_taken(client: httpx.Client, path: str, body: bytes) -> None:
    refused(ask(client, path, body, FORM), 415, "application/json")


def test_what_is_nearly_json_is_told_so(client: httpx.Client) -> None:
    refused(ask(client, INFER, JSON_BODY[:-1], FORM), 400, "malformed JSON")


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "text/json", "multipart/form-data; boundary=x", "application/vnd.bentoml+pickle"],
)
@pytest.mark.parametrize(("path", "body"), BODIES)
def test_other_types_are_not_taken(client: httpx.Client, path: str, body: bytes, media_type: str) -> None:
    refused(ask(client, path, body, media_type), 415, "application/json")


def test_other_dialects_take_no_form(client: httpx.Client) -> None:
    body = b'{"model": "diabetes", "rows": [[1, 2]]}'
    assert ask(client, "/regress", body, FORM).status_code == 415
    assert ask(client, "/v1/completions", body, FORM).status_code == 415


def test_curl_as_tritons_documentation_has_it(server: Server) -> None:
    require(shutil.which("curl"), "curl")

    def curl(path: str, *arguments: str, body: bytes) -> bytes:
        command = ["curl", "-sS", "--max-time", "5", "-X", "POST", f"{server.url}{path}", *arguments]
        return subprocess.run(command, input=body, capture_output=True, check=True).stdout

    assert b'"data":[6.0]' in curl(INFER, "-d", "@-", body=JSON_BODY)
    assert b'"text_output":' in curl(GENERATE, "-d", TEXT.decode(), body=b"")
    tensors = BINARY_HEAD + struct.pack("<2f", 1, 2)
    header = f"Inference-Header-Content-Length: {len(BINARY_HEAD)}"
    assert b'"data":[6.0]' in curl(INFER, "--data-binary", "@-", "-H", header, body=tensors)
