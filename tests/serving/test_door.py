"""Who is let in: the host that a request names, the page that it comes from, and how its head is written."""

import json
import re
from pathlib import Path

import httpx
import pytest
from server import Server
from test_application import no_page, request
from test_bad_input import raw_answer, status
from test_errors import ROWS, refused

from serving.application import Application
from serving.listening_address import bound
from serving.settings import Settings
from zoo.errors import ZooError

pytestmark = pytest.mark.usefixtures("unharmed")

HOST = b"Host: localhost\r\n"
POST = b"POST /regress HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(ROWS)
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(ROWS), ROWS)
PAGE = "https://app.example"


def get(host: bytes, target: bytes = b"/livez") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost:%b\r\n\r\n" % (target, host)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"localhost", 200),
        (b"localhost:1234", 200),
        (b"LocalHost.:1", 200),
        (b"127.0.0.1", 200),
        (b"[::1]:3000", 200),
        (b"[0:0:0:0:0:0:0:1]", 200),
        (b"localhost:", 200),
        (b"evil.example", 421),
        (b"evil.example:3000", 421),
        (b"localhost.evil.example", 421),
        (b"evil.localhost", 421),
        (b"127.0.0.1.evil.example", 421),
        (b"127.1", 421),
        (b"2130706433", 421),
        (b"0.0.0.0", 421),
        (b"[::]", 421),
        (b"[::ffff:127.0.0.1]", 421),
        (b"localhost..", 421),
        (b"", 400),
        (b".", 400),
        (b":3000", 400),
        (b"localhost@evil.example", 400),
        (b"evil.example@localhost", 400),
        (b"localhost, evil.example", 400),
        (b"localhost/", 400),
        (b"localhost#x", 400),
        (b"local host", 400),
        (b"localhost:x", 400),
        (b"localhost:80:80", 400),
        (b"::1", 400),
        (b"[localhost]", 400),
        (b"[::1", 400),
        (b"%6cocalhost", 400),
        ("löcalhost".encode(), 400),
        (b"a" * 300, 400),
    ],
)
def test_hosts_of_a_service_on_loopback(server: Server, host: bytes, expected: int) -> None:
    assert status(raw_answer(server, get(b" " + host))) == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET /livez HTTP/1.1\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nhost: evil.example\r\n", 400),
        (b"GET /livez HTTP/1.0\r\n", 200),
        (b"GET /livez HTTP/1.0\r\nHost: evil.example\r\n", 421),
        # The host in a whole URL goes before the header's.
        (b"GET http://evil.example/livez HTTP/1.1\r\nHost: localhost\r\n", 421),
        (b"GET http://localhost/livez HTTP/1.1\r\nHost: evil.example\r\n", 200),
        (b"GET HTTP://LOCALHOST:80/livez?x HTTP/1.1\r\nHost: localhost\r\n", 200),
        (b"GET http://[::1]:80/livez HTTP/1.1\r\nHost: localhost\r\n", 200),
        (b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n", 200),
        (b"GET http://localhost/livez HTTP/1.1\r\n", 400),
        (b"GET http://localhost@evil.example/livez HTTP/1.1\r\nHost: localhost\r\n", 400),
        (b"GET http://evil.example@localhost/livez HTTP/1.1\r\nHost: localhost\r\n", 400),
        (b"GET http:///livez HTTP/1.1\r\nHost: localhost\r\n", 400),
        (b"GET evil.example:80 HTTP/1.1\r\nHost: localhost\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n", 404),
    ],
)
def test_where_the_host_stands(server: Server, head: bytes, expected: int) -> None:
    assert status(raw_answer(server, head + b"\r\n")) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"GET /livez HTTP/2.0", 505),
        (b"GET /livez HTTP/3.0", 505),
        (b"GET /livez HTTP/1.2", 505),
        (b"GET /livez HTTP/0.9", 505),
        (b"GET /livez HTTP/9.9", 505),
        (b"GET /livez", 505),
        (b"GET /livez http/1.1", 400),
        (b"GET /livez HTTP/11", 400),
        (b"GET /livez HTTP/1.10", 400),
    ],
)
def test_versions(server: Server, line: bytes, expected: int) -> None:
    assert status(raw_answer(server, line + b"\r\n" + HOST + b"\r\n")) == expected


def test_an_offer_to_upgrade_in_another_version(server: Server) -> None:
    offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert status(raw_answer(server, b"GET /livez HTTP/2.0\r\n" + HOST + offer)) == 505
    userinfo = b"GET http://a@localhost/livez HTTP/1.1\r\n" + HOST + offer
    assert status(raw_answer(server, userinfo)) == 400
    assert status(raw_answer(server, b"GET http://evil.example/livez HTTP/1.1\r\n" + HOST + offer)) == 421


def test_the_preface_of_http_2(server: Server) -> None:
    assert status(raw_answer(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")) == 505


@pytest.mark.parametrize(
    ("coding", "expected"),
    [
        (b"chunked", 200),
        (b"CHUNKED", 200),
        (b"gzip, chunked", 501),
        (b"identity, chunked", 501),
        (b"chunked, chunked", 501),
        (b"chunked, gzip", 501),
        (b"gzip", 501),
        (b"identity", 501),
        (b"xchunked", 501),
        (b"chunked;q=1", 501),
        (b",chunked", 501),
        (b"", 501),
        (b"gzip\r\nTransfer-Encoding: chunked", 501),
        (b"chunked\r\nTransfer-Encoding: chunked", 501),
        (b"gzip, chunked\r\n" + LENGTH.strip(), 400),
        (b"chunked\r\n" + LENGTH.strip(), 400),
    ],
)
def test_transfer_codings(server: Server, coding: bytes, expected: int) -> None:
    answer = raw_answer(server, POST + b"Transfer-Encoding: %b\r\n\r\n" % coding + CHUNKS)
    assert status(answer) == expected
    assert (b"connection: close" in answer.lower()) == (expected != 200)


def test_a_long_number_as_length(server: Server) -> None:
    zeros = b"Content-Length: %b%d\r\n\r\n" % (b"0" * 5000, len(ROWS))
    assert status(raw_answer(server, POST + zeros + ROWS)) == 400


@pytest.mark.parametrize(
    "path",
    [
        b"/v1%2Fmodels",
        b"/v1%2fmodels",
        b"/v1/models%2F",
        b"/v2%2Fhealth/live",
        b"/v2/health%2Flive",
        b"/%2Flivez",
        b"/models/a%2Fb",
        b"/models%5Cdiabetes",
        b"/livez%00",
        b"/v1%252Fmodels",
        b"/models/%ff%fe",
        b"/x/../livez",
        b"/./livez",
        b"/%2e/livez",
        b"/x/%2e%2e/livez",
        b"//livez",
        b"/v1//models",
        b"/livez;x",
        b"/" + b"a" * 60_000,
        b"/" + b"%41" * 20_000,
        b"http://localhost/" + b"a" * 60_000,
        b"/v2/models" + b"/a" * 20_000,
    ],
)
def test_paths_that_are_like_others(server: Server, path: bytes) -> None:
    assert status(raw_answer(server, get(b" localhost", path))) == 404


def test_letters_may_be_written_in_numbers(server: Server) -> None:
    assert status(raw_answer(server, get(b" localhost", b"/%6Civez"))) == 200


def test_a_query_may_be_long(server: Server) -> None:
    assert status(raw_answer(server, get(b" localhost", b"/livez?" + b"a&" * 20_000))) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost"},
        {"Origin": "http://localhost:1"},
        {"Origin": "http://localhost:PORT@evil.example"},
        {"Origin": "http://localhost:PORT.evil.example"},
        {"Origin": "http://localhost:PORT, http://evil.example"},
        {"Origin": "ftp://localhost:PORT"},
        {"Origin": "//localhost:PORT"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:PORT", "Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        "/regress",
        "/v2/models/diabetes/infer",
        "/v1/completions",
        "/v2/repository/index",
        "/nothing",
        "/models",
    ],
)
def test_pages_of_other_sites_may_not_post(server: Server, path: str, headers: dict[str, str]) -> None:
    port = server.url.rpartition(":")[2]
    sent = {name: value.replace("PORT", port) for name, value in headers.items()}
    url = f"http://localhost:{port}{path}"
    for media_type in ({}, {"Content-Type": "application/json"}):
        assert httpx.post(url, content=ROWS, headers={**sent, **media_type}).status_code == 403


@pytest.mark.parametrize(
    "origin", ["http://localhost:PORT", "https://localhost:PORT", "http://LOCALHOST:PORT"]
)
@pytest.mark.parametrize("site", ["same-origin", "none", "same-site", None])
def test_pages_of_the_service_may(server: Server, origin: str, site: str | None) -> None:
    port = server.url.rpartition(":")[2]
    headers = {"Origin": origin.replace("PORT", port), **({} if site is None else {"Sec-Fetch-Site": site})}
    assert httpx.post(f"http://localhost:{port}/regress", content=ROWS, headers=headers).status_code == 200


def test_other_methods_do_not_ask_where_a_page_is(client: httpx.Client) -> None:
    foreign = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    response = client.get("/models", headers=foreign)
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers
    assert "origin" not in response.headers.get("vary", "")


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("zoo.example", "https://zoo.example"),
        ("zoo.example:443", "https://zoo.example"),
        ("zoo.example", "http://zoo.example:80"),
        ("[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
    ],
)
def test_own_origins_behind_a_proxy(tmp_path: Path, host: str, origin: str) -> None:
    application = Application(no_page, Settings(bundles=tmp_path))
    headers = {"Host": host, "Origin": origin}
    assert request(application, "POST", "/regress", json={}, headers=headers).status_code == 503  # not ready
    headers["Host"] = f"other.{host}" if host[0] != "[" else "[2001:db8::2]:8080"
    assert request(application, "POST", "/regress", json={}, headers=headers).status_code == 403


def test_hosts_by_setting(tmp_path: Path) -> None:
    settings = Settings.from_environment({"ZOO_BUNDLES": str(tmp_path), "ZOO_HOSTS": "Zoo.example:80, [::2]"})
    application = Application(no_page, settings)
    expected = {"zoo.example": 200, "zoo.example:3000": 200, "[::2]": 200, "localhost": 421, "zoo": 421}
    for host, answer in expected.items():
        assert request(application, "GET", "/livez", headers={"Host": host}).status_code == answer
    refusal = request(application, "GET", "/livez", headers={"Host": "evil"})
    assert refused(refusal, 421)["code"] == "wrong_host"


def test_any_host_where_no_names_are_known(tmp_path: Path) -> None:
    application = Application(no_page, Settings(bundles=tmp_path))
    for number in range(200):
        assert request(application, "GET", "/livez", headers={"Host": f"pod-{number}"}).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ZOO_HOSTS", "*"),
        ("ZOO_HOSTS", "a,,b"),
        ("ZOO_HOSTS", "http://zoo.example"),
        ("ZOO_ORIGINS", "*"),
        ("ZOO_ORIGINS", "null"),
        ("ZOO_ORIGINS", "app.example"),
        ("ZOO_ORIGINS", "https://app.example/"),
        ("ZOO_ORIGINS", "https://App.example"),
        ("ZOO_ORIGINS", "https://*.example"),
        ("ZOO_ORIGINS", "https://user@app.example"),
        ("ZOO_CONNECTIONS", "0"),
    ],
)
def test_settings_that_cannot_be(name: str, value: str) -> None:
    with pytest.raises(ZooError, match=name):
        Settings.from_environment({name: value})


def test_malformed_heads_are_counted_and_logged_now_and_then(server: Server, client: httpx.Client) -> None:
    def counted() -> dict[str, float]:
        page = client.get("/metrics").text
        return {
            code: float(n) for code, n in re.findall(r'_requests_refused_total{status="(.+)"} (.+)', page)
        }

    before, lines = counted(), len(server.log.read_text().splitlines())
    heads = {
        "400": b"rubbish\r\n\r\n",
        "431": b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 500,
        "501": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
        "505": b"GET / HTTP/2.0\r\n\r\n",
        "421": get(b" evil.example"),
    }
    for expected, head in heads.items():
        for _ in range(30):
            assert status(raw_answer(server, head)) == int(expected)
    assert counted() == {**before, **{name: before.get(name, 0) + 30 for name in heads}}
    assert len(server.log.read_text().splitlines()) - lines < 30
    assert "evil.example" not in server.log.read_text()


def test_json_shapes_of_refusals(server: Server) -> None:
    for path, keys in ((b"/v2/x", {"error"}), (b"/regress", {"error", "code", "request_id"})):
        answer = raw_answer(server, get(b" evil.example", path))
        assert json.loads(answer.partition(b"\r\n\r\n")[2]).keys() == keys


@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        (None, None),
        ("0.0.0.0", None),
        ("::", None),
        ("192.0.2.1", None),
        ("127.0.0.1", {"localhost", "127.0.0.1", "::1"}),
        ("::1", {"localhost", "127.0.0.1", "::1"}),
        ("127.0.0.2", {"localhost", "127.0.0.1", "127.0.0.2", "::1"}),
    ],
)
def test_hosts_by_the_address_of_the_service(address: str | None, hosts: set[str] | None) -> None:
    assert bound(Settings(), address).hosts == hosts
    named = Settings.from_environment({"ZOO_HOSTS": "zoo.example"})
    assert bound(named, address).hosts == {"zoo.example"}
