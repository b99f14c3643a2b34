"""What is said over a connection that is no HTTP, or nearly: each with what has to become of it.

The kinds are those that tests of HTTP parsers and collections of ways to smuggle a request have, written anew. ``INNER`` stands
where a request is to be slipped past: whoever lets it through has read the bytes before it otherwise than somebody else may.
"""

from __future__ import annotations

from typing import NamedTuple

INNER = b"GET /inner HTTP/1.1\r\nHost: a\r\n\r\n"
REFUSED, SERVED = "refused", "served"


class Case(NamedTuple):
    """What is said, and what becomes of it: refused (4xx and the connection closed), or served, once."""

    said: bytes
    fate: str = REFUSED


def _get(*lines: bytes, line: bytes = b"GET /case HTTP/1.1", end: bytes = b"\r\n", host: bytes = b"Host: a") -> bytes:
    return end.join([line, *([host] if host else []), *lines, b"", b""])


def _post(*lines: bytes, body: bytes = b"", line: bytes = b"POST /case HTTP/1.1") -> bytes:
    return _get(*lines, line=line) + body


def _chunks(body: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", body=body)


def _encoding(said: bytes, fate: str = REFUSED) -> Case:
    """A header that says something like ``chunked``, and chunks; in a length's stead and beside one."""
    return Case(_post(said, body=b"5\r\nhello\r\n0\r\n\r\n"), fate)


def _length(value: bytes, fate: str = REFUSED) -> Case:
    return Case(_post(b"Content-Length:" + value, body=b"hello"), fate)


_KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
_SHORT = b"0\r\n\r\n" + INNER

CASES: dict[str, Case] = {
    # --- the request line
    "no HTTP": Case(b"hello\r\n\r\n"),
    "nothing but ends of lines": Case(b"\r\n\r\n" + _get(), SERVED),
    "TLS": Case(bytes.fromhex("16030100c8010000c403038b2b") + b"\0" * 200),
    "HTTP/2's preface": Case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/0.9": Case(b"GET /case\r\n\r\n"),
    "version 0.9": Case(_get(line=b"GET /case HTTP/0.9")),
    "version 1.2": Case(_get(line=b"GET /case HTTP/1.2")),
    "version 2": Case(_get(line=b"GET /case HTTP/2.0")),
    "version 1.10": Case(_get(line=b"GET /case HTTP/1.10")),
    "a version in small letters": Case(_get(line=b"GET /case http/1.1")),
    "no version": Case(_get(line=b"GET /case HTTP/")),
    "something behind the version": Case(_get(line=b"GET /case HTTP/1.1 x")),
    "two blanks": Case(_get(line=b"GET /case  HTTP/1.1"), SERVED),
    "a tab for a blank": Case(_get(line=b"GET\t/case HTTP/1.1")),
    "a blank before the method": Case(_get(line=b" GET /case HTTP/1.1")),
    "a method in small letters": Case(_get(line=b"get /case HTTP/1.1")),
    "no method": Case(_get(line=b"/case HTTP/1.1")),
    "a method that is none": Case(_get(line=b"G(T /case HTTP/1.1")),
    "a blank in the path": Case(_get(line=b"GET /ca se HTTP/1.1")),
    "a zero byte in the path": Case(_get(line=b"GET /case\0 HTTP/1.1")),
    "a CR in the path": Case(_get(line=b"GET /ca\rse HTTP/1.1")),
    "bytes that are no ASCII in the path": Case(_get(line=b"GET /caf\xc3\xa9 HTTP/1.1")),
    "a request line that ends with CR alone": Case(b"GET /case HTTP/1.1\rHost: a\r\r"),
    "a path without a slash": Case(_get(line=b"GET case HTTP/1.1")),
    "CONNECT": Case(_get(line=b"CONNECT a:443 HTTP/1.1")),
    "the absolute form": Case(_get(line=b"GET http://a/case HTTP/1.1"), SERVED),
    # --- the host
    "no host": Case(_get(host=b"")),
    "two hosts": Case(_get(b"Host: b")),
    "two hosts that are the same": Case(_get(b"Host: a")),
    # --- headers
    "no name": Case(_get(b": x")),
    "no colon": Case(_get(b"nonsense")),
    "a blank in a name": Case(_get(b"X Y: x")),
    "a blank before the colon": Case(_get(b"X : x")),
    "a tab before the colon": Case(_get(b"X\t: x")),
    "a blank before the first name": Case(_get(host=b" Host: a")),
    "a folded line": Case(_get(b"X: a", b" b")),
    "a line folded with a tab": Case(_get(b"X: a", b"\tb")),
    "a zero byte in a value": Case(_get(b"X: a\0b")),
    "a zero byte in a name": Case(_get(b"X\0: a")),
    "a CR in a value": Case(_get(b"X: a\rY: b")),
    "a control character in a value": Case(_get(b"X: a\x01b")),
    "DEL in a value": Case(_get(b"X: a\x7fb")),
    "a name that is no ASCII": Case(_get(b"X\xe9: a")),
    "a name with a separator": Case(_get(b"X@Y: a")),
    "a name in brackets": Case(_get(b"(X): a")),
    "a value that is no ASCII": Case(_get(b"X: \xe9\xff"), SERVED),
    "a value that is empty": Case(_get(b"X:"), SERVED),
    "blanks round a value": Case(_get(b"X: \t a \t "), SERVED),
    "lines that end with LF alone": Case(_get(end=b"\n")),
    "a head that ends with LF alone": Case(b"GET /case HTTP/1.1\r\nHost: a\n\n"),
    # --- lengths
    "a length with a sign": _length(b" +5"),
    "a negative length": _length(b" -5"),
    "a length in hexadecimal": _length(b" 0x5"),
    "a length with an underscore": _length(b" 0_5"),
    "a length with a fraction": _length(b" 5.0"),
    "a length that is empty": _length(b""),
    "a length that is blank": _length(b"  "),
    "a length of two words": _length(b" 5 5"),
    "a length with a comma": _length(b" 5, 5"),
    "a length with two values": _length(b" 5, 6"),
    "a length with a semicolon": _length(b" 5;"),
    "a length in other digits": _length(b" \xd9\xa5"),
    "a length with a vertical tab": _length(b" \x0b5"),
    "a length beyond 64 bits": _length(b" 18446744073709551621"),
    "a length beyond 128 bits": _length(b" 340282366920938463463374607431768211461"),
    "a length with zeros before it": _length(b" 005", SERVED),
    "blanks round a length": _length(b" \t5\t ", SERVED),
    "two lengths": Case(_post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!")),
    "two lengths that are the same": Case(_post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello")),
    "a length before a blank and a colon": Case(_post(b"Content-Length : 5", body=b"hello")),
    "a length with an underscore in its name": Case(_post(b"Content_Length: 5"), SERVED),
    "a length in a GET": Case(_post(b"Content-Length: 5", body=b"hello", line=b"GET /case HTTP/1.1"), SERVED),
    # --- a length and an encoding
    "a length and chunks": Case(_post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=_SHORT)),
    "chunks and a length": Case(_post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=_SHORT)),
    "a length of nothing and chunks": Case(_post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=_SHORT)),
    "a length and identity": Case(_post(b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"hello")),
    # --- encodings
    "chunks": _encoding(b"Transfer-Encoding: chunked", SERVED),
    "chunks in capitals": _encoding(b"TRANSFER-ENCODING: CHUNKED", SERVED),
    "chunks behind a tab": _encoding(b"Transfer-Encoding:\tchunked", SERVED),
    "chunks and a blank": _encoding(b"Transfer-Encoding: chunked ", SERVED),
    "chunks in HTTP/1.0": Case(
        _post(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n", line=b"POST /case HTTP/1.0")
    ),
    "an encoding that is none": _encoding(b"Transfer-Encoding: xchunked"),
    "an encoding cut off": _encoding(b"Transfer-Encoding: chunke"),
    "identity": _encoding(b"Transfer-Encoding: identity"),
    "chunks twice": _encoding(b"Transfer-Encoding: chunked, chunked"),
    "chunks and identity": _encoding(b"Transfer-Encoding: chunked, identity"),
    "identity and chunks": _encoding(b"Transfer-Encoding: identity, chunked"),
    "an empty encoding": _encoding(b"Transfer-Encoding:"),
    "a comma before chunked": _encoding(b"Transfer-Encoding: , chunked"),
    "a comma behind chunked": _encoding(b"Transfer-Encoding: chunked,"),
    "chunked in quotation marks": _encoding(b'Transfer-Encoding: "chunked"'),
    "chunked with a parameter": _encoding(b"Transfer-Encoding: chunked;q=1"),
    "a vertical tab before chunked": _encoding(b"Transfer-Encoding: \x0bchunked"),
    "a form feed behind chunked": _encoding(b"Transfer-Encoding: chunked\x0c"),
    "a blank before the encoding's colon": _encoding(b"Transfer-Encoding : chunked"),
    "a folded encoding": _encoding(b"Transfer-Encoding:\r\n chunked"),
    "an encoding behind LF alone": _encoding(b"X: x\nTransfer-Encoding: chunked"),
    "an encoding behind CR alone": _encoding(b"X: x\rTransfer-Encoding: chunked"),
    "two encodings": _encoding(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    "two encodings, one of them none": _encoding(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x"),
    "two encodings, the first of them none": _encoding(b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked"),
    # --- chunks
    "a size with a sign": Case(_chunks(b"+5\r\nhello\r\n0\r\n\r\n")),
    "a negative size": Case(_chunks(b"-5\r\nhello\r\n0\r\n\r\n")),
    "a size with 0x": Case(_chunks(b"0x5\r\nhello\r\n0\r\n\r\n")),
    "a size with an underscore": Case(_chunks(b"0_5\r\nhello\r\n0\r\n\r\n")),
    "a size that is none": Case(_chunks(b"g\r\nhello\r\n0\r\n\r\n")),
    "an empty size": Case(_chunks(b"\r\nhello\r\n0\r\n\r\n")),
    "a blank before a size": Case(_chunks(b" 5\r\nhello\r\n0\r\n\r\n")),
    "a blank behind a size": Case(_chunks(b"5 \r\nhello\r\n0\r\n\r\n")),
    "a size beyond 64 bits": Case(_chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n")),
    "a size that ends with LF alone": Case(_chunks(b"5\nhello\r\n0\r\n\r\n")),
    "a size that ends with CR alone": Case(_chunks(b"5\rhello\r\n0\r\n\r\n")),
    "a size with two CRs": Case(_chunks(b"5\r\r\nhello\r\n0\r\n\r\n")),
    "an extension that ends with LF alone": Case(_chunks(b"5;a\nhello\r\n0\r\n\r\n")),
    "a CR in an extension": Case(_chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n")),
    "a chunk that is longer than its size": Case(_chunks(b"3\r\nhello\r\n0\r\n\r\n")),
    "a chunk that ends with LF alone": Case(_chunks(b"5\r\nhello\n0\r\n\r\n")),
    "chunks that end with LF alone": Case(_chunks(b"5\r\nhello\r\n0\n\n")),
    "chunks with extensions": Case(_chunks(b"5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n"), SERVED),
    "a size with zeros before it": Case(_chunks(b"0005\r\nhello\r\n000\r\n\r\n"), SERVED),
    "a trailer": Case(_chunks(b"5\r\nhello\r\n0\r\nX-Trailer: x\r\n\r\n"), SERVED),
    "a trailer without a colon": Case(_chunks(b"5\r\nhello\r\n0\r\nnonsense\r\n\r\n")),
    "a folded trailer": Case(_chunks(b"5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n")),
    # --- changing to something else
    "an upgrade to nothing known": Case(_get(b"Connection: Upgrade", b"Upgrade: h2c"), SERVED),
    "an upgrade with a body": Case(
        _post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: %d" % len(INNER), body=INNER), SERVED
    ),
    "an upgrade with chunks": Case(
        _post(b"Connection: Upgrade", b"Upgrade: h2c", b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"), SERVED
    ),
    "a WebSocket without a key": Case(_get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")),
    "a WebSocket of a version that is none": Case(
        _get(b"Connection: Upgrade", b"Upgrade: websocket", _KEY, b"Sec-WebSocket-Version: 1")
    ),
    "a WebSocket by POST": Case(
        _post(b"Connection: Upgrade", b"Upgrade: websocket", _KEY, b"Sec-WebSocket-Version: 13", b"Content-Length: 1", body=b"x")
    ),
}  # fmt: skip
