"""Bodies in content codings, gzip of several members among them (RFC 1952, section 2.2)."""

import gzip
import time
import zlib

import httpx
import pytest
from test_errors import ROWS, post, refused

from serving.context import RequestContext
from serving.exchange import (
    DEFLATE_RATIO,
    MAX_BODY,
    MAX_MEMBERS,
    accepted_coding,
    decompress,
    inflated,
    weighted,
)
from serving.memory import MemoryBudget
from serving.problem import Problem
from serving.turns import Overloaded

pytestmark = pytest.mark.usefixtures("unharmed")

EMPTY = gzip.compress(b"", mtime=0)  # without the time, which would differ in the names of tests
RAW = zlib.compressobj(wbits=-15)
RAW_ROWS = RAW.compress(ROWS) + RAW.flush()


def members(*parts: bytes) -> bytes:
    return b"".join(map(gzip.compress, parts))


def answered(client: httpx.Client, body: bytes, coding: str) -> None:
    response = post(client, body, Content_Encoding=coding)
    assert response.status_code == 200, response.text
    assert response.json()["predictions"] == [{"value": 6.0, "unit": "points"}]


@pytest.mark.parametrize(
    "body",
    [
        members(ROWS),
        members(ROWS[:9], ROWS[9:]),
        members(*(bytes([byte]) for byte in ROWS)),
        members(ROWS) + EMPTY,
        EMPTY + members(ROWS),
        members(ROWS, b" " * 1_000_000, b"\n"),
        EMPTY * (MAX_MEMBERS - 1) + members(ROWS),
    ],
    ids=["one", "two", "a byte each", "an empty last", "an empty first", "long ones", "thousands"],
)
def test_the_members_of_gzip_are_one_body(client: httpx.Client, body: bytes) -> None:
    answered(client, body, "gzip")
    answered(client, body, "X-GZIP")


@pytest.mark.parametrize("body", [zlib.compress(ROWS), RAW_ROWS], ids=["zlib", "raw"])
def test_deflate(client: httpx.Client, body: bytes) -> None:
    answered(client, body, "deflate")
    refused(post(client, body + body, Content_Encoding="deflate"), 400)


@pytest.mark.parametrize(
    "value", ["," * 60_000, "a;," * 20_000, ";" * 60_000, "gzip;q=0," * 6_000, "*/*," * 15_000]
)
def test_long_lists_of_what_is_accepted(value: str) -> None:
    begun = time.process_time()
    for _ in range(10):
        weighted(value.encode())
    assert time.process_time() - begun < 0.05


def test_no_more_than_32_items_are_looked_at() -> None:
    assert accepted_coding(b"br," * 31 + b"gzip") == b"gzip"
    assert accepted_coding(b"br," * 32 + b"gzip") is None
    assert accepted_coding(b"gzip" + b";a" * 31 + b";q=0") == b"gzip"


@pytest.mark.parametrize("listed", ["," * 60_000, "," * 32 + "gzip", "identity," * 5_000])
def test_long_lists_of_codings(client: httpx.Client, listed: str) -> None:
    refused(post(client, members(ROWS), Content_Encoding=listed), 415)


@pytest.mark.parametrize(
    "rest", [b"\0", b"\0" * 512, b"garbage", EMPTY[:-1], gzip.compress(b" ")[:4], b"\x1f"]
)
def test_what_follows_a_member_is_a_member(client: httpx.Client, rest: bytes) -> None:
    for body in (members(ROWS) + rest, members(ROWS[:9], ROWS[9:]) + rest):
        problem = refused(post(client, body, Content_Encoding="gzip"), 400)
        assert problem["code"] == "bad_coding"


def test_the_bound_is_on_all_members_together(client: httpx.Client) -> None:
    half = b" " * (MAX_BODY // 2)
    answered(client, members(ROWS, half, half[: -len(ROWS)]), "gzip")
    refused(post(client, members(ROWS, half, half), Content_Encoding="gzip"), 413)
    refused(post(client, members(b" " * 1_000_000) * 1000, Content_Encoding="gzip"), 413)


@pytest.mark.parametrize("member", [EMPTY, members(b"x" * 400)], ids=["empty", "short"])
def test_members_without_end_take_no_time(member: bytes) -> None:
    begun = time.monotonic()
    with pytest.raises(Problem) as raised:
        decompress(member * (MAX_BODY // len(member)), b"gzip")
    assert raised.value.status == 413
    assert time.monotonic() - begun < 2


def test_inflating_keeps_to_the_memory_budget() -> None:
    plain = bytes(1_000_000)
    packed = gzip.compress(plain)
    budget = MemoryBudget(DEFLATE_RATIO * len(packed), lambda: 1.0)
    first, second = RequestContext(budget=budget), RequestContext(budget=budget)
    assert inflated(first, packed, b"gzip") == plain
    assert budget.reserved == len(plain)
    with pytest.raises(Overloaded):
        inflated(second, packed, b"gzip")
    first.free()
    assert inflated(second, packed, b"gzip") == plain


def test_nothing_inflates_more_than_is_expected() -> None:
    for size in (1, 100, 10_000, 10_000_000):
        assert size <= DEFLATE_RATIO * len(zlib.compress(bytes(size), 9))
