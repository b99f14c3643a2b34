"""Requests as URIs, one a line: `/move?x=1&y=2`. A protocol of lines, whose lines mean something."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from rocksyd import Lines, ProtocolError


class Uri(NamedTuple):
    path: str
    query: dict[str, str]


class Uris(Lines):
    def decode(self, body: bytes) -> Uri:
        text = super().decode(body)
        try:
            path, query = urlsplit(text)[2:4]
            members = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=100, errors="strict")
            return Uri(unquote(path, errors="strict"), dict(members))
        except ValueError:  # UnicodeDecodeError is one
            raise ProtocolError("a line is not a URI such as /move?x=1&y=2") from None

    def encode(self, message: Uri) -> bytes:
        query = urlencode(message.query)
        return super().encode(quote(message.path) + (f"?{query}" if query else ""))
