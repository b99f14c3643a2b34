"""Values of AMF 0, which Flash speaks, each with its length in front: a protocol of bodies, whose bytes mean something.

Source: Adobe, Action Message Format AMF 0, 2007. Objects have no types, and references are not taken.
"""

from __future__ import annotations

import struct
from typing import Any

from rocksyd import LengthPrefixed, ProtocolError

NUMBER, BOOLEAN, STRING, OBJECT, NULL, UNDEFINED, MAP, END, LIST, LONG_STRING = 0, 1, 2, 3, 5, 6, 8, 9, 10, 12
DEEPEST = 50


class Amf0(LengthPrefixed):
    def decode(self, body: bytes) -> Any:
        reader = _Reader(body)
        try:
            value = reader.value(DEEPEST)
        except (struct.error, UnicodeDecodeError):
            raise ProtocolError("a message is not a value of AMF 0") from None
        if reader.at != len(body):
            raise ProtocolError("a message has something behind its value")
        return value

    def encode(self, message: Any) -> bytes:
        return super().encode(_written(message))


class _Reader:
    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0

    def take(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.body, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self, length: int) -> str:
        text: bytes = self.take(f">{length}s")
        return text.decode()

    def members(self, deep: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while True:
            name = self.text(self.take(">H"))
            if not name and self.body[self.at : self.at + 1] == bytes([END]):
                self.at += 1
                return found
            found[name] = self.value(deep)

    def value(self, deep: int) -> Any:
        if not deep:
            raise ProtocolError(f"a value nests deeper than {DEEPEST}")
        kind = self.take(">B")
        if kind == NUMBER:
            return self.take(">d")
        if kind == BOOLEAN:
            return self.take(">?")
        if kind in (STRING, LONG_STRING):
            return self.text(self.take(">H" if kind == STRING else ">I"))
        if kind in (NULL, UNDEFINED):
            return None
        if kind == OBJECT:
            return self.members(deep - 1)
        if kind == MAP:
            self.take(">I")  # how many there are, about
            return self.members(deep - 1)
        if kind == LIST:
            return [self.value(deep - 1) for _ in range(self.take(">I"))]
        raise ProtocolError(f"a value of the type {kind} is not taken")


def _written(value: Any) -> bytes:
    if value is None:
        return bytes([NULL])
    if isinstance(value, bool):
        return struct.pack(">B?", BOOLEAN, value)
    if isinstance(value, int | float):
        return struct.pack(">Bd", NUMBER, value)
    if isinstance(value, str):
        text = value.encode()
        form = (STRING, ">BH") if len(text) < 1 << 16 else (LONG_STRING, ">BI")
        return struct.pack(form[1], form[0], len(text)) + text
    if isinstance(value, list | tuple):
        return struct.pack(">BI", LIST, len(value)) + b"".join(map(_written, value))
    if isinstance(value, dict):
        members = [struct.pack(">H", len(name.encode())) + name.encode() + _written(one) for name, one in value.items()]
        return bytes([OBJECT]) + b"".join(members) + struct.pack(">HB", 0, END)
    raise TypeError(f"AMF has no {type(value).__name__}")
