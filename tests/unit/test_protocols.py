"""The protocols of services: whatever the pieces and however often the connection is handed over, the same messages come out."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from rocksyd import Json, LengthPrefixed, Lines, Protobuf, ProtocolError, RocksydError, WebSocket
from rocksyd.protocols import Protocol, protocol_of
from tests.unit.websocket_client import HANDSHAKE, frame

MAX = 64
PROTOCOLS: dict[str, Callable[[], Protocol]] = {
    "lines": lambda: Lines(max=MAX),
    "json": lambda: Json(max=MAX),
    "length": lambda: LengthPrefixed(max=MAX),
    "protobuf": lambda: Protobuf(Value, max=MAX),
    "websocket": lambda: WebSocket(max=MAX),
}

Told = tuple[list[Any], str | None]
"""What came out: the messages, and the error that ended it."""


def read(protocol: Protocol, pieces: list[bytes], handed_over: list[bool] | None = None) -> tuple[Told, bytes]:
    """What comes out of ``pieces``, and what the protocol answered; where it says so a new parser goes on before the piece."""
    parser, messages, answer = protocol.parser(), [], b""
    for index, piece in enumerate(pieces):
        if handed_over and handed_over[index]:
            parser = protocol.parser(bytes(parser.pending))
        try:
            messages += parser.feed(piece)
        except ProtocolError as error:
            assert parser.ended
            assert parser.feed(b"anything\n") == []
            return (messages + error.messages, str(error)), answer + parser.to_send()
        answer += parser.to_send()
        if parser.ended:
            break
    return (messages, None), answer


def without_date(answer: bytes) -> bytes:
    return b"\r\n".join(line for line in answer.split(b"\r\n") if not line.startswith(b"Date:"))


numbers = st.integers(0, 2**32 - 1)
garbage = st.binary(max_size=2 * MAX)
prefixed = st.builds(lambda body: len(body).to_bytes(4, "big") + body, garbage)
texts = st.text(max_size=20)
websocket_frames = st.builds(
    frame,
    st.sampled_from([0, 0, 1, 1, 2, 2, 8, 9, 10, 3]),
    st.one_of(texts.map(str.encode), garbage),
    last=st.booleans(),
    masked=st.sampled_from([True] * 9 + [False]),
)
STREAMS: dict[str, st.SearchStrategy[list[bytes]]] = {
    "lines": st.lists(st.one_of(garbage, texts.map(lambda text: f"{text}\r\n".encode()), st.just(b"\n"))),
    "json": st.lists(
        st.one_of(
            garbage,
            st.just(b"\r\n"),
            st.recursive(texts | numbers, st.lists).map(lambda value: json.dumps(value).encode() + b"\n"),
        )
    ),
    "length": st.lists(st.one_of(garbage, prefixed, prefixed)),
    "protobuf": st.lists(
        st.one_of(prefixed, texts.map(lambda text: LengthPrefixed(4096).encode(Value(string_value=text).SerializeToString())))
    ),
    "websocket": st.lists(st.one_of(websocket_frames, websocket_frames, websocket_frames, garbage)).map(
        lambda rest: [HANDSHAKE, *rest]
    ),
}


@st.composite
def cut(draw: st.DrawFn, name: str) -> tuple[bytes, list[bytes], list[bool]]:
    """A stream, the same in pieces, and before which of them the connection is handed over."""
    stream = b"".join(draw(STREAMS[name]))
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]
    return stream, pieces, draw(st.lists(st.booleans(), min_size=len(pieces), max_size=len(pieces)))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_any_pieces_and_any_hand_overs_give_the_same(name: str) -> None:
    protocol = PROTOCOLS[name]()

    @given(cut(name))
    def holds(case: tuple[bytes, list[bytes], list[bool]]) -> None:
        stream, pieces, handed_over = case
        whole, answer = read(protocol, [stream])
        for got, got_answer in (
            read(protocol, pieces, handed_over),
            read(protocol, [stream[at : at + 1] for at in range(len(stream))], [True] * len(stream)),
        ):
            assert got == whole
            assert without_date(got_answer) == without_date(answer)

    holds()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_whatever_comes_only_a_protocol_error_comes_out(name: str) -> None:
    protocol = PROTOCOLS[name]()

    @given(
        st.binary(),
        st.lists(garbage | st.sampled_from([HANDSHAKE, HANDSHAKE[:40], HANDSHAKE[40:], b"GET / HTTP/1.1\r\n", b"\r\n\r\n"])),
    )
    def holds(pending: bytes, pieces: list[bytes]) -> None:
        parser = protocol.parser(pending if name != "websocket" else b"")
        for piece in pieces:
            try:
                parser.feed(piece)
            except ProtocolError as error:
                assert str(error)  # noqa: PT017 - it may be raised or not
            assert len(parser.pending) <= len(pending) + 20 * 1024
            parser.to_send()

    holds()


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), max_size=16)))
def test_what_is_sent_is_read_as_it_was(words: list[str]) -> None:
    told: list[tuple[Protocol, list[Any]]] = [
        (Lines(max=MAX), words),
        (Json(max=4096), [{"word": word, "nested": [None, True, 1.5]} for word in words]),
        (LengthPrefixed(max=MAX), [word.encode() for word in words]),
        (Protobuf(Value, max=MAX + 8), [Value(string_value=word) for word in words]),
    ]
    for protocol, messages in told:
        stream = b"".join(protocol.encode(message) for message in messages)
        assert protocol.parser().feed(stream) == messages


@pytest.mark.parametrize(
    ("name", "sent", "messages", "error", "answer"),
    [
        (
            "lines",
            b"a\r\n\nb\n" + b"x" * 65,
            ["a", "", "b"],
            "a line is longer than 64 bytes",
            b"error: a line is longer than 64 bytes\n",
        ),
        ("lines", b"x" * 64 + b"\r\n", ["x" * 64], None, b""),
        ("lines", b"x" * 64 + b"\r", [], None, b""),
        ("lines", b"ok\n\xff\nlost\n", ["ok"], "a line is not utf-8", b"error: a line is not utf-8\n"),
        (
            "json",
            b'1\n \n{"a":[]}\nnope\n',
            [1, {"a": []}],
            "a line is not JSON: Expecting value: line 1 column 1 (char 0)",
            None,
        ),
        ("json", b"NaN\n", [], "a line is not JSON: NaN is not JSON", b'{"error":"a line is not JSON: NaN is not JSON"}\n'),
        ("json", b"\xff\n", [], "a line is not UTF-8", b'{"error":"a line is not UTF-8"}\n'),
        ("length", b"\0\0\0\1a\0\0\0\0\xff\xff\xff\xff", [b"a", b""], "a message of 4294967295 bytes is longer than 64", b""),
        ("protobuf", b"\0\0\0\0\0\0\0\1\xff", [Value()], "a message is not a google.protobuf.Value", b""),
    ],
)
def test_what_is_no_message_is_named(
    name: str, sent: bytes, messages: list[Any], error: str | None, answer: bytes | None
) -> None:
    told, answered = read(PROTOCOLS[name](), [sent])
    assert told == (messages, error)
    assert answer is None or answered == answer


def test_json_that_is_only_deep_is_refused() -> None:
    (_, error), _ = read(Json(), [b"[" * 100_000 + b"]" * 100_000 + b"\n"])
    assert error == "a line is not JSON: nests deeper than 512 levels"


def test_what_cannot_be_sent_is_refused_where_it_is_said() -> None:
    for protocol, message, wrong in (
        (Lines(), "a\nb", ValueError),
        (Lines(), b"a", TypeError),
        (Lines(encoding="latin-1"), "€", ValueError),
        (Json(), float("nan"), ValueError),
        (Json(), object(), TypeError),
        (LengthPrefixed(), "text", TypeError),
        (Protobuf(Value), Struct(), TypeError),
        (WebSocket(), 1, TypeError),
    ):
        with pytest.raises(wrong):
            protocol.encode(message)


def test_a_protocol_that_cannot_be_is_refused_where_it_is_declared() -> None:
    for made in (
        lambda: Lines(max=0),
        lambda: Lines(max=True),
        lambda: Json(max=-1),
        lambda: LengthPrefixed(max=2**32),
        lambda: Lines(encoding="utf-16"),
        lambda: Lines(encoding="no-such"),
        lambda: WebSocket(max=0),
    ):
        with pytest.raises(ValueError, match=r"is expected|less than"):
            made()
    with pytest.raises(TypeError, match="a class of messages that protoc made"):
        Protobuf(dict)


@pytest.mark.parametrize(("made", "package"), [(WebSocket, "websockets"), (lambda: Protobuf(Value), "google.protobuf")])
def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, made: Callable[[], object], package: str) -> None:
    for name in [name for name in sys.modules if name.startswith(package)]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RocksydError, match=r"pip install 'rocksyd\[services\]'"):
        made()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_peer_cannot_make_a_parser_keep_more_than_max(name: str) -> None:
    parser = PROTOCOLS[name]().parser()
    start = {"length": b"\0\0\0\x40", "protobuf": b"\0\0\0\x40", "websocket": HANDSHAKE + frame(1, b"x" * 60, last=False)}.get(
        name, b""
    )
    piece = {"websocket": frame(0, b"", last=False)}.get(name, b"{" * 16)
    parser.feed(start)
    tracemalloc.start()
    try:
        for _ in range(5_000):
            with suppress(ProtocolError):
                parser.feed(piece)
        assert tracemalloc.get_traced_memory()[0] < 16 * 1024
    finally:
        tracemalloc.stop()


class Netstrings:
    """A protocol of somebody's own: ``3:abc,``."""

    def __init__(self) -> None:
        self.pending = b""

    def feed(self, data: bytes) -> Any:
        self.pending += data
        while b":" in self.pending:
            length, rest = self.pending.split(b":", 1)
            if not length.isdigit():
                raise ProtocolError("not a length")
            if len(rest) <= int(length):
                return
            self.pending = rest[int(length) + 1 :]
            yield rest[: int(length)]


class Counted(Netstrings):
    """Numbers what it says."""

    said = 0

    def encode(self, message: str) -> bytes:
        self.said += 1
        return f"{self.said}:{message}".encode()


class TestOwn:
    @pytest.mark.parametrize("declared", [Netstrings(), Netstrings])
    def test_each_connection_has_its_own_and_a_hand_over_carries_what_is_pending(self, declared: object) -> None:
        protocol = protocol_of(declared)
        one, other = protocol.parser(), protocol.parser()
        assert one.feed(b"3:abc,2:d") == [b"abc"]
        assert other.feed(b"1:x,") == [b"x"]
        assert (one.pending, other.pending) == (b"2:d", b"")
        next_one = protocol.parser(one.pending)
        assert next_one.pending == b"2:d"
        assert next_one.feed(b"e,") == [b"de"]
        assert (next_one.ready, next_one.ended, next_one.to_send()) == (True, False, b"")

    def test_what_was_complete_before_an_error_is_not_lost(self) -> None:
        parser = protocol_of(Netstrings()).parser()
        with pytest.raises(ProtocolError, match="not a length") as caught:
            parser.feed(b"1:a,x:")
        assert caught.value.messages == [b"a"]
        assert parser.ended
        assert parser.feed(b"1:a,") == []

    def test_messages_are_bytes_unless_it_has_its_own_way_to_encode(self) -> None:
        assert protocol_of(Netstrings()).encode(b"abc") == b"abc"
        with pytest.raises(TypeError, match="give the protocol a method encode"):
            protocol_of(Netstrings()).encode("abc")

    def test_what_it_encodes_may_depend_on_the_connection(self) -> None:
        protocol = protocol_of(Counted)
        one, other = protocol.parser(), protocol.parser()
        assert [one.encode("a"), one.encode("b"), other.encode("c")] == [b"1:a", b"2:b", b"1:c"]

    @pytest.mark.parametrize("declared", [object(), object, Lines, "lines"])
    def test_what_is_no_protocol_is_refused_with_what_one_is(self, declared: object) -> None:
        with pytest.raises(TypeError, match="protocol="):
            protocol_of(declared)

    def test_ours_is_taken_as_it_is(self) -> None:
        lines = Lines()
        assert protocol_of(lines) is lines
