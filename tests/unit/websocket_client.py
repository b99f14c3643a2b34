"""What a WebSocket client sends, byte by byte: as RFC 6455 has it, or wrong on purpose."""

from __future__ import annotations

HANDSHAKE = (
    b"GET /room?name=a HTTP/1.1\r\nHost: game\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: http://game\r\n\r\n"
)
"""The request of RFC 6455, section 1.2."""
ACCEPTED = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
_MASK = b"\x37\xfa\x21\x3d"


def frame(opcode: int, data: bytes, *, last: bool = True, masked: bool = True) -> bytes:
    """One frame of a client (section 5.2)."""
    length = len(data)
    short = length if length < 126 else 126 if length < 1 << 16 else 127
    extended = b"" if short == length else length.to_bytes(2 if short == 126 else 8, "big")
    head = bytes([opcode | (0x80 if last else 0), short | (0x80 if masked else 0)]) + extended
    return head + _MASK + bytes(byte ^ _MASK[at % 4] for at, byte in enumerate(data)) if masked else head + data
