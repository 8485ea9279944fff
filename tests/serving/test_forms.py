"""Multipart forms as bytes: what is a file, what is malformed, and that no part of a cut form is answered."""

import base64
import contextlib
import time
from typing import Any

import httpx
import pytest
from test_errors import refused
from test_photos import CORNER, file_of

from serving.problem import Problem
from serving.protocols.zoo_request import form_fields

TYPE = {"Content-Type": "multipart/form-data; boundary=XX"}
DATA = b"\r\n-\r\n--X\x00\xff\r\n"  # with beginnings of a boundary in it
TEXT = base64.b64encode(DATA).decode()
MODEL = b'name="model"\r\n\r\nmnist'
FILE = b'name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'


def form(*parts: bytes) -> bytes:
    """A form, of its parts behind `Content-Disposition: form-data; `."""
    return (
        b"".join(b"--XX\r\nContent-Disposition: form-data; %b\r\n" % part for part in parts) + b"--XX--\r\n"
    )


def read(body: bytes, media_type: str = TYPE["Content-Type"]) -> dict[str, Any]:
    return form_fields([(b"content-type", media_type.encode())], body, ("image",))


def status(body: bytes, media_type: str = TYPE["Content-Type"]) -> int:
    with pytest.raises(Problem) as raised:
        read(body, media_type)
    return raised.value.status


def test_a_form_cut_anywhere_is_malformed() -> None:
    whole = form(MODEL, FILE + DATA, FILE + DATA, b'name="top_k"\r\n\r\n3')
    fields = {"model": "mnist", "image": [DATA, DATA], "top_k": 3}
    assert read(whole) == fields
    end = len(whole) - len(b"\r\n")
    for cut in range(end):
        assert status(whole[:cut]) == 400, whole[:cut]
    for rest in (b"", b"\r", b"\r\n", b"\r\nan epilogue", b"\r\n--XX\r\n"):
        assert read(whole[:end] + rest) == fields


def test_a_cut_form_is_refused_over_http(client: httpx.Client) -> None:
    photo = file_of(CORNER)
    whole = form(b'name="model"\r\n\r\nmlp-corner', FILE + photo, FILE + photo)
    answer = client.post("/classify_image", content=whole, headers=TYPE)
    assert len(answer.json()["predictions"]) == 2
    for cut in (whole.rindex(b"--XX--"), whole.rindex(photo) + 9, whole.rindex(b"filename"), len(whole) - 3):
        body = refused(client.post("/classify_image", content=whole[:cut], headers=TYPE), 400, "boundary")
        assert body["code"] == "malformed_form"


@pytest.mark.parametrize(
    "head",
    [
        b'name="image"; filename="a.png"',
        b"name=image; filename=a.png",
        b'name="image"; filename=""',
        b'name="image"; filename="a; name=b.png"',
        b'name="image"; filename="a\\"; name=\\"b.png"',
        b"name=\"image\"; filename*=UTF-8''%E6%97%A5.png",
        b"filename*=UTF-8''%E6%97%A5.png; name=\"image\"",
        b'name="image"; filename="a"; filename*=UTF-8\'\'%E6%97%A5.png',
        b"name=\"image\"; FileName*0*=UTF-8''a; filename*1=b",
        b'name="image"\r\nContent-Type: image/png',
        b'name="image"\r\ncontent-type: Application/Octet-Stream',
        b'name="image"; filename="a"\r\nContent-Type: text/plain',
        b'name="image"\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary',
    ],
)
def test_a_file_is_known_by_its_name_or_its_type(head: bytes) -> None:
    assert read(form(head + b"\r\n\r\n" + DATA)) == {"image": DATA}


@pytest.mark.parametrize("head", [b"", b"\r\nContent-Type: text/plain; charset=utf-8"])
def test_a_file_may_come_as_text_in_base64(head: bytes) -> None:
    assert read(form(b'name="image"' + head + b"\r\n\r\n" + TEXT.encode())) == {"image": TEXT}
    typed = b'name="image"\r\nContent-Type: application/json\r\n\r\n"%b"'
    assert read(form(typed % TEXT.encode())) == {"image": TEXT}


@pytest.mark.parametrize("media_type", [b"application/json", b"application/octet-stream", b"text/plain"])
def test_other_fields_may_have_a_type(media_type: bytes) -> None:
    typed = b'name="top_k"\r\nContent-Type: %b\r\n\r\n3' % media_type
    assert read(form(typed)) == {"top_k": 3}


def test_a_file_without_data() -> None:
    assert read(form(FILE)) == {"image": b""}
    assert read(b"--XX--") == {}


@pytest.mark.parametrize(
    "body",
    [
        form(b'name="model"; name="image"\r\n\r\nmnist'),
        form(b'name="image"; filename="a"; filename="b"\r\n\r\n' + DATA),
        form(b'name="image"; NAME="model"\r\n\r\nmnist'),
        form(b'name="model"\r\nContent-Disposition: form-data; name="image"\r\n\r\nmnist'),
        form(b'filename="a.png"\r\n\r\n' + DATA),
        b"--XX\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n--XX--\r\n",
        form(MODEL).replace(b"\r\n", b"\n"),
        form(MODEL, FILE + b"x").replace(b"\r\n", b"\n"),
        form(b'name="image"; filename="a"\nContent-Type: image/png\r\n\r\n' + DATA),
        form(b'name="model"\n\nmnist'),
        form(MODEL).replace(b"--XX--", b"--XX-"),
        form(MODEL).replace(b"--XX--", b"--XX- -"),
        form(MODEL).replace(b"--XX--", b"--YY--"),
        form(MODEL)[2:],
        b"",
        b"\r\n",
    ],
)
def test_malformed(body: bytes) -> None:
    assert status(body) == 400


@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "idna", "punycode", "hex", "utf-16", "none"])
def test_whatever_charset_a_form_says_it_is_read_or_refused(charset: str) -> None:
    media_type = f"{TYPE['Content-Type']}; charset={charset}"
    body = form(b'name="model\xff"\r\n\r\n\xff\xfe..mnist')
    with contextlib.suppress(Problem):  # and nothing else
        read(body, media_type)


def test_a_pickle_is_refused_by_its_type_alone() -> None:
    for name in (b"model", b"image"):
        part = b'name="%b"\r\nContent-Type: application/vnd.bentoml+pickle\r\n\r\n\x80\x04K\x01.' % name
        assert status(form(part)) == 415


@pytest.mark.parametrize(
    "parameters",
    [b";" * 60_000, b"; a" * 20_000, b'; x="' + b";" * 60_000, b'; x="' + b'\\";' * 20_000],
    ids=["empty", "names", "one string", "quotes"],
)
def test_long_lists_of_parameters(parameters: bytes) -> None:
    begun = time.process_time()
    assert status(form(MODEL), TYPE["Content-Type"] + parameters.decode()) == 400
    assert time.process_time() - begun < 0.02
    part = b'name="model"' + parameters[:4000] + b"\r\n\r\nmnist"
    assert status(form(part)) == 400


@pytest.mark.parametrize("end", [b"", b"\\", b'\\"'])
def test_strings_without_an_end(end: bytes) -> None:
    part = b'name="model' + b'\\"' * 1_900 + end + b"\r\n\r\nmnist"
    begun = time.process_time()
    with contextlib.suppress(Problem):
        read(form(*[part] * 50))
    assert time.process_time() - begun < 1
