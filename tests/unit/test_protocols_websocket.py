"""WebSocket as a service's protocol: the handshake, messages in fragments, pings, the goodbye, and what a hand-over carries."""

from __future__ import annotations

import pytest

from rocksyd import ProtocolError, WebSocket
from rocksyd.protocols import Parser
from rocksyd.protocols.websocket import MAX_REQUEST, WebSocketParser
from tests.unit.websocket_client import ACCEPTED, HANDSHAKE, frame


def opened(protocol: WebSocket) -> WebSocketParser:
    parser = protocol.parser()
    assert parser.feed(HANDSHAKE) == []
    parser.to_send()
    return parser


def refused(parser: Parser, data: bytes) -> tuple[str, bytes]:
    with pytest.raises(ProtocolError) as caught:
        parser.feed(data)
    assert parser.ended
    return str(caught.value), parser.to_send()


def test_the_handshake_is_answered_once_and_nothing_may_be_sent_before() -> None:
    protocol = WebSocket()
    parser = protocol.parser()
    parser.feed(HANDSHAKE[:100])
    assert not parser.ready
    assert (parser.to_send(), parser.request) == (b"", None)
    parser = protocol.parser(parser.pending)
    assert parser.feed(HANDSHAKE[100:] + frame(1, b"first")) == ["first"]
    assert parser.ready
    answer = parser.to_send()
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert ACCEPTED in answer
    assert b"Extensions" not in answer
    assert parser.to_send() == b""
    moved = protocol.parser(parser.pending)
    assert moved.ready
    assert (moved.feed(b""), moved.to_send()) == ([], b"")


def test_of_the_subprotocols_a_peer_asks_for_the_preferred_is_spoken() -> None:
    asked = HANDSHAKE[:-2] + b"Sec-WebSocket-Protocol: chat, game\r\n\r\n"
    parser = WebSocket(subprotocols=["game", "chat"]).parser()
    parser.feed(asked)
    assert b"Sec-WebSocket-Protocol: game\r\n" in parser.to_send()
    assert "subprotocol" in refused(WebSocket(subprotocols=["game"]).parser(), HANDSHAKE)[0]


def test_what_was_asked_for_is_known_after_a_hand_over_too() -> None:
    protocol = WebSocket()
    parser = protocol.parser(opened(protocol).pending)
    assert parser.request is not None
    assert parser.request.path == "/room?name=a"
    assert parser.request.headers["origin"] == "http://game"


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: game\r\n\r\n", b"426"),
        (HANDSHAKE.replace(b"GET", b"POST"), b"405"),
        (HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0"), b"505"),
        (HANDSHAKE.replace(b"http://game", b"http://evil"), b"403"),
        (HANDSHAKE.replace(b"Version: 13", b"Version: 8"), b"400"),
        (b"\x16\x03\x01\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_REQUEST, b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_REQUEST + b"\r\n\r\n", b"431"),
    ],
)
def test_who_does_not_ask_for_a_websocket_is_told_so_in_http(asked: bytes, status: bytes) -> None:
    text, answer = refused(WebSocket(origins=["http://game"]).parser(), asked)
    assert text
    assert answer.startswith(b"HTTP/1.1 " + status)


def test_a_message_in_fragments_is_one_with_pings_between_and_hand_overs() -> None:
    protocol = WebSocket()
    parser, messages, answer = opened(protocol), [], b""
    euro = "€".encode()
    for piece in (
        frame(1, b"a" + euro[:1], last=False),
        frame(9, b"?"),
        frame(0, euro[1:], last=False),
        frame(0, b"!"),
        frame(2, b"\0"),
    ):
        for at in range(len(piece)):
            parser = protocol.parser(parser.pending)
            messages += parser.feed(piece[at : at + 1])
            answer += parser.to_send()
    assert messages == ["a€!", b"\0"]
    assert answer == protocol.frame(10, b"?")


def test_messages_are_sent_as_text_or_binary() -> None:
    protocol = WebSocket()
    assert protocol.encode("é") == b"\x81\x02\xc3\xa9"
    assert protocol.encode(b"\0") == b"\x82\x01\0"


def test_the_goodbye_is_answered_and_what_comes_behind_it_dropped() -> None:
    parser = opened(WebSocket())
    assert parser.feed(frame(1, b"last") + frame(8, b"\x03\xe8") + frame(1, b"too late")) == ["last"]
    assert parser.ended
    assert parser.to_send() == b"\x88\x02\x03\xe8"
    moved = WebSocket().parser(parser.pending)
    assert moved.ended
    assert moved.feed(frame(1, b"too late")) == []


def test_our_goodbye_is_said_once() -> None:
    parser = opened(WebSocket())
    parser.close()
    parser.close()
    assert parser.ended
    assert parser.to_send() == b"\x88\x02\x03\xe8"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(1, b"x" * 65), 1009),
        (frame(1, b"x" * 40, last=False) + frame(0, b"x" * 40), 1009),
        (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1009),
        (frame(1, b"x", masked=False), 1002),
        (frame(0, b"x"), 1002),
        (frame(1, b"\xff"), 1007),
        (frame(9, b"x", last=False), 1002),
        (frame(0x41, b"x"), 1002),
    ],
)
def test_what_breaks_the_protocol_is_told_by_its_code(sent: bytes, code: int) -> None:
    text, answer = refused(opened(WebSocket(max=64)), sent)
    assert text
    assert (answer[0], int.from_bytes(answer[2:4], "big")) == (0x88, code)
