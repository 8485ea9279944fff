"""What is sent to do harm: each has its answer within seconds, and leaves the service ready, right and small.

What merely does not fit is in `test_errors`, `test_v2_errors` and `test_photos`, under the same conditions.
"""

import base64
import gzip
import io
import json
import socket
import struct
import zlib

import httpx
import pytest
from PIL import Image
from server import Server
from test_errors import JSON, ROWS, post, refused

pytestmark = pytest.mark.usefixtures("unharmed")

LIMIT = 33_554_432
MILLION = 1_000_000
HEAD = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
TENSORS = b'{"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}'
GOOD = {b"/regress": ROWS, b"/v2/models/diabetes/infer": TENSORS}


def connected(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def raw_answer(server: Server, *pieces: bytes) -> bytes:
    """The beginning of what comes back, which a server that closes early may send before it has it all."""
    with connected(server) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except OSError:
            pass
        return connection.recv(65536)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def png(mode: str, side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def classify(client: httpx.Client, *files: bytes) -> httpx.Response:
    texts = [base64.b64encode(data).decode() for data in files]
    return client.post("/classify_image", json={"model": "mnist", "image": texts})


def test_bodies_over_the_limit(client: httpx.Client) -> None:
    refused(post(client, b" " * (LIMIT + 1)), 413)
    bomb = gzip.compress(b" " * (LIMIT + 1), 1)
    for _ in range(20):  # to see whether any of them stays in memory
        refused(post(client, bomb, Content_Encoding="gzip"), 413)
    refused(post(client, zlib.compress(b"\0" * 200_000_000, 1), Content_Encoding="deflate"), 413)
    chunks = (b" " * 1_000_000 for _ in range(40))
    refused(client.post("/regress", content=chunks, headers=JSON), 413)


def test_a_body_of_exactly_the_limit_is_read(client: httpx.Client) -> None:
    assert post(client, ROWS + b" " * (LIMIT - len(ROWS))).status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_rubbish(client: httpx.Client, coding: str) -> None:
    whole = gzip.compress(ROWS) if coding == "gzip" else zlib.compress(ROWS)
    for body in (whole[: len(whole) // 2], b"rubbish", whole[:-1], whole + b"more"):
        refused(post(client, body, Content_Encoding=coding), 400)


def test_a_content_length_over_the_limit_is_refused_unread(server: Server) -> None:
    head = b"POST /regress HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
    assert status(raw_answer(server, head)) == 413


def test_a_body_that_does_not_come_is_past_the_deadline(server: Server) -> None:
    head = (
        b"POST /regress HTTP/1.1\r\nHost: localhost\r\nX-Request-Timeout: 0.2\r\nContent-Length: 100\r\n\r\n{"
    )
    assert status(raw_answer(server, head)) == 504


@pytest.mark.parametrize("path", GOOD)
def test_a_million_chunks_of_a_byte(server: Server, path: bytes) -> None:
    chunks = b"1\r\n \r\n" * MILLION + b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD[path]), GOOD[path])
    head = HEAD % path + b"Transfer-Encoding: chunked\r\n\r\n"
    assert status(raw_answer(server, head, chunks)) == 200


@pytest.mark.parametrize(
    "pieces",
    [
        (b"X-A: ", *(b"a" * MILLION,) * 100),
        (b"X-A: aaaaaaaa\r\n" * MILLION,),
        (b"X-A", *(b"a" * MILLION,) * 10),
    ],
    ids=["a long header", "many headers", "a long name"],
)
def test_a_head_without_end(server: Server, pieces: tuple[bytes, ...]) -> None:
    answer = raw_answer(server, HEAD % b"/regress", *pieces)
    assert status(answer) == 431
    assert b"head_too_large" in answer
    assert b"x-request-id" in answer


def test_trailers_without_end(server: Server) -> None:
    head = HEAD % b"/regress" + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    assert status(raw_answer(server, head, *(b"X-A: %b\r\n" % (b"a" * 100) * 10_000,) * 100)) == 413


@pytest.mark.parametrize(
    "request_",
    [
        b"rubbish\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"CONNECT x:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        HEAD % b"/regress" + b"Content-Length: -5\r\n\r\n",
        HEAD % b"/regress" + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        HEAD % b"/regress" + b"Content-Length: %d\r\n\r\n" % 10**30,
        HEAD % b"/regress" + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD % b"/regress" + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab\r\n0\r\n\r\n",
        HEAD % b"/regress" + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        HEAD % b"/regress" + b"X: a\0b\r\n\r\n",
    ],
)
def test_what_is_no_http(server: Server, request_: bytes) -> None:
    answer = raw_answer(server, request_)
    assert status(answer) == 400
    assert b"malformed_http" in answer


def test_requests_behind_one_another(server: Server) -> None:
    """Thousands at once, the last of which is answered, too."""
    last = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000 + last)
        received = b""
        while part := connection.recv(1 << 20):
            received += part
    assert received.count(b"HTTP/1.1 200 OK") == 2001


@pytest.mark.parametrize("mode", ["1", "P", "I;16", "RGBA"])
def test_a_small_file_of_many_pixels(client: httpx.Client, mode: str) -> None:
    file = png(mode, 4500)  # twenty million, in 3 to 80 kB
    assert classify(client, file).status_code == 200
    refused(classify(client, *(file,) * 10), 413, "200,000,000 pixels")


def test_images_that_would_take_minutes(client: httpx.Client) -> None:
    file = png("L", 8)
    chunks = file[:33] + (bytes(4) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))) * MILLION + file[33:]
    refused(classify(client, chunks), 422, "a PNG may have at most 10,000 chunks")
    buffer = io.BytesIO()
    Image.new("RGB", (3000, 3000)).save(buffer, "JPEG", progressive=True)
    photo = buffer.getvalue()
    last_scan = photo[photo.rindex(b"\xff\xda") : -2]
    refused(classify(client, photo[:-2] + last_scan * 400 + photo[-2:]), 422, "at most 56 scans")
    assert classify(client, photo).status_code == 200
    fill = photo[:2] + b"\xff" * MILLION + photo[2:]
    refused(classify(client, fill), 422, "a JPEG may have at most 10,000 segments")


def test_images_that_are_none_and_images_that_are_too_large(client: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    png = buffer.getvalue()
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    bomb = png[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + png[33:]
    for data, status, word in (
        (b"", 422, "image"),
        (b"GIF89a", 422, "PNG or JPEG"),
        (png[:40], 422, "PNG or JPEG"),
        (bomb, 413, "30000 x 30000"),
    ):
        text = base64.b64encode(data).decode()
        refused(client.post("/classify_image", json={"model": "mnist", "image": text}), status, word)
        files = {"image": ("x.png", data)}
        refused(client.post("/classify_image", data={"model": "mnist"}, files=files), status, word)
    refused(client.post("/classify_image", json={"model": "mnist", "image": "%%%"}), 422, "base64")
    refused(client.post("/classify_image", json={"model": "mnist"}), 422, "image", "pixels")
    refused(client.post("/classify_image", json={"model": "mnist", "pixels": [[1]]}), 422, "pixels")
    refused(
        client.post("/classify_image", json={"model": "mnist", "image": png.hex(), "top_k": 0}), 422, "top_k"
    )


def test_malformed_forms_do_not_fill_the_log(server: Server, client: httpx.Client) -> None:
    before = server.log.read_text().count("boundary")
    headers = {"Content-Type": "multipart/form-data; boundary=a"}
    for _ in range(50):
        refused(client.post("/classify_image", content=b"{" * 50, headers=headers), 400)
    assert server.log.read_text().count("boundary") <= before + 5


@pytest.mark.parametrize("charset", ["punycode", "utf-7", "unicode_escape", "undefined", "utf-16"])
def test_forms_are_utf_8(client: httpx.Client, charset: str) -> None:
    """Python knows codecs that take quadratic time, and some that are none."""
    value = b"a-" + b"99a" * 100_000
    body = b'--B\r\nContent-Disposition: form-data; name="image"\r\n\r\n%b\r\n--B--\r\n' % value
    headers = {"Content-Type": f"multipart/form-data; boundary=B; charset={charset}"}
    refused(client.post("/classify_image", content=body, headers=headers), 415)


def test_texts_among_pixels(client: httpx.Client) -> None:
    """NumPy would make each value as long as the longest."""
    pixels = ["a" * 100_000] + [""] * 100_000
    refused(client.post("/classify_image", json={"model": "mnist", "pixels": pixels}), 422)
    refused(client.post("/classify_image", json={"model": "mnist", "pixels": [[["a"]]]}), 422)


def test_more_strings_than_there_may_be(client: httpx.Client) -> None:
    parameters = {"binary_data_size": 8_000_000}
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    answer = client.post("/v2/models/rnn-letters/infer", content=head + bytes(8_000_000), headers=headers)
    assert answer.status_code == 400
    assert "over 1 strings" in answer.json()["error"]


def test_names_that_are_told(client: httpx.Client) -> None:
    row = {"age": 1.0, "mass": 2.0, "a" * 1_000_000: 0.0}
    answer = client.post("/regress", json={"model": "diabetes", "rows": [row]})
    refused(answer, 422)
    assert len(answer.content) < 1000


def test_many_wrong_fields(client: httpx.Client) -> None:
    rows = [{f"{number:x}": "" for number in range(990)}]
    answer = client.post("/regress", json={"model": "diabetes", "rows": rows})
    refused(answer, 422, "and 985 more")


@pytest.mark.parametrize("depth", [400, 1000])
def test_nesting_in_a_large_body(client: httpx.Client, depth: int) -> None:
    fields = b'{"model":"rnn-letters","prompt":"a","max_tokens":1,"user":[' + b"1," * 140_000
    body = fields + b'1],"stop":' + b"[" * depth + b"1" + b"]" * depth + b"}"
    answer = client.post("/v1/completions", content=body, headers=JSON)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "inside",
    [
        b'"messages":[{"role":"user","content":[%b]}]' % b",".join([b'{"type":"text","text":"a"}'] * 300_000),
        b'"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"enum":[%b]}}}'
        % b",".join([b"1"] * 300_000),
    ],
    ids=["parts", "enum"],
)
def test_many_values_of_texts(client: httpx.Client, inside: bytes) -> None:
    answer = client.post("/v1/chat/completions", content=b'{"model":"rnn-talk",%b}' % inside, headers=JSON)
    assert answer.status_code == 400
    assert "over 262,144 values" in answer.json()["error"]["message"]
