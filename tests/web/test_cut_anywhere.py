"""Requests that come in pieces, several in one piece, from one worker to another in between, or broken: without a process.

What is said over one connection is made up by hypothesis; the pieces it comes in as well. With the profile ``thorough`` for long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocksyd.worker.web.http import Connection
from tests.restart.stage import many
from tests.web.inside import Inside, Wire
from tests.web.malformed import CASES

SEEN: list[tuple[str, str, bytes]] = []


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was asked; ``/early`` before it has read anything, ``/parts`` in parts."""
    if scope["type"] != "http":
        await receive()
        await send({"type": "websocket.close"})
        return
    path, body, more = scope["path"], b"", scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    SEEN.append((scope["method"], path, body))
    said = b"%s %s %d" % (scope["method"].encode(), path.encode(), len(body))
    parts = [said[:5], said[5:]] if path == "/parts" else [said]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", path.encode("latin-1", "replace"))]})
    for number, part in enumerate(parts):
        await send({"type": "http.response.body", "body": part, "more_body": number < len(parts) - 1})


@pytest.fixture(scope="module")
def inside() -> Iterator[Inside]:
    made = Inside(application)
    yield made
    made.close()


def get(path: str, headers: list[bytes]) -> bytes:
    return b"\r\n".join([b"GET %s HTTP/1.1" % path.encode(), b"Host: a", *headers, b"", b""])


def post(path: str, headers: list[bytes], body: bytes) -> bytes:
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join([b"POST %s HTTP/1.1" % path.encode(), *headers, length, b"Host: a", b"", b""]) + body


def chunked(path: str, headers: list[bytes], chunks: list[bytes]) -> bytes:
    head = b"\r\n".join([b"PUT %s HTTP/1.1" % path.encode(), b"Host: a", b"Transfer-Encoding: chunked", *headers, b"", b""])
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in [*filter(None, chunks), b""])


PATHS = st.sampled_from(["/", "/a", "/parts", "/early", "/long" + "x" * 300])
LINES = st.lists(
    st.sampled_from([b"X-A: b", b"Cookie: a=b", b"Accept: */*", b"Connection: Upgrade, x\r\nUpgrade: h2c"]), max_size=2
)
BODIES = st.binary(max_size=60) | st.just(b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n") | st.just(b"x" * 5000)
GOOD = st.one_of(
    st.builds(get, PATHS, LINES), st.builds(post, PATHS, LINES, BODIES),
    st.builds(chunked, PATHS, LINES, st.lists(BODIES, max_size=4)),
)  # fmt: skip
NOT_EARLY = st.sampled_from(["/", "/a", "/parts"])
BROKEN = st.one_of(st.sampled_from([case.said for case in CASES.values()]), st.binary(min_size=1, max_size=200))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good request in which some bytes are others, or gone, or twice."""
    good = draw(
        st.one_of(st.builds(post, NOT_EARLY, LINES, BODIES), st.builds(chunked, NOT_EARLY, LINES, st.lists(BODIES, max_size=3)))
    )
    at = draw(st.integers(0, len(good)))
    until = draw(st.integers(at, min(len(good), at + 3)))
    other = draw(
        st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b":", b";", b"0", b"f", b"-", b"\xff", b"chunked"])
    )
    return good[:at] + other + good[until:]


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)


def said(wire: Wire) -> bytes:
    return re.sub(rb"date: [^\r]*\r\n", b"", wire.written)


def one_after_another(inside: Inside, parts: list[bytes], *, hand_over: bool = False) -> tuple[list[Any], bytes, int]:
    """What the application sees, what is answered, and how often the connection has gone from one worker to another."""
    SEEN.clear()
    wire, answered, given = inside.connect(), b"", 0
    for part in parts:
        wire.feed(part)
        inside.settle()
        if hand_over and isinstance(wire.protocol, Connection) and wire.protocol.between_requests:
            head = wire.protocol.head
            wire.protocol.let_go()
            answered += said(wire)
            wire = inside.connect(head)
            given += 1
    answered += said(wire)
    wire.close()
    inside.settle()
    assert inside.faults == []
    return list(SEEN), answered, given


@settings(max_examples=many(25, 3000))
@given(st.lists(GOOD, min_size=1, max_size=5), CUTS)
def test_requests_in_pieces_are_those_in_one_from_any_worker(inside: Inside, good: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(good)
    whole, answers, _ = one_after_another(inside, [stream])
    assert len(whole) == len(good)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == len(good)
    parts = pieces(stream, cuts)
    assert one_after_another(inside, parts)[:2] == (whole, answers)
    seen, answered, given = one_after_another(inside, parts, hand_over=True)
    assert (seen, answered) == (whole, answers)
    assert given or b"/early" in stream  # (its answer is through before its body has come)


@settings(max_examples=many(25, 5000))
@given(st.lists(st.builds(get, NOT_EARLY, LINES), max_size=2), BROKEN | mutated(), CUTS)
def test_what_is_broken_is_broken_however_it_is_cut(inside: Inside, before: list[bytes], broken: bytes, cuts: list[int]) -> None:
    stream = b"".join([*before, broken])
    whole, answers, _ = one_after_another(inside, [stream])
    seen, answered, _ = one_after_another(inside, pieces(stream, cuts))
    assert seen == whole
    assert answered.count(b"HTTP/1.1 200 OK\r\n") == answers.count(b"HTTP/1.1 200 OK\r\n")
    handed, _, _ = one_after_another(inside, pieces(stream, cuts), hand_over=True)
    assert handed == whole
    statuses = re.findall(rb"HTTP/1\.1 (\d)\d\d [A-Z]", answered)
    assert [status for status in statuses[:-1] if status in b"45"] == []
