"""Requests that are nearly right, made up of the parts of HTTP: what a seed gives is always the same.

What must live here: how such a request is made and how it is broken. What this file must not know: to whom it is said.
"""

from __future__ import annotations

import random

METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"get", b"PRI", b"CONNECT", b"G@T", b""]
TARGETS = [b"/", b"/stream?3", b"/a/b?c=d#e", b"*", b"http://a/b", b"//a", b"/%00%ff", b"/\xff", b"a:1", b"/" + b"x" * 3000, b""]
VERSIONS = [b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.10", b"http/1.1", b"HTTP/1.", b""]
NAMES = b"""Host Content-Length Transfer-Encoding Connection Upgrade Expect X Cookie Trailer X-Forwarded-For X_Forwarded_For
X-Request-ID Sec-WebSocket-Key Sec-WebSocket-Version""".split()
NAMES += [b"T\xe9", b""]
VALUES = b"""a 0 5 +5 -1 99999999999999999999 chunked identity chunked,chunked gzip close keep-alive Upgrade websocket h2c
100-continue 1.2.3.4 13 dGhlIHNhbXBsZSBub25jZQ==""".split()
VALUES += [b"\0", b"a\rb", b"\xff", b"\t", b"", b"x" * 5000]
ENDS = [b"\r\n"] * 20 + [b"\n", b"\r", b"\r\r\n", b""]
CHUNKS = [b"5\r\nhello\r\n", b"5;a=b\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"-5\r\nhello\r\n", b"5\nhello\n"]
CHUNKS += [b"ffffffffffffffff1\r\n", b"6\r\nhello\r\n", b"\r\n", b"z\r\n"]


def request(dice: random.Random) -> bytes:
    """One, mostly well formed, with a body that its head may or may not speak of."""
    if dice.random() < 0.4:  # a good one, so that what comes behind is read at all
        body = b"x" * dice.randrange(200)
        return b"POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    end = dice.choice(ENDS)
    pairs = [(b"Host", b"a")] * dice.choice([0, 1, 1, 1, 1, 2])
    pairs += [(dice.choice(NAMES), dice.choice(VALUES)) for _ in range(dice.randrange(5))]
    dice.shuffle(pairs)
    line = b" ".join([dice.choice(METHODS[:4] * 3 + METHODS), dice.choice(TARGETS), dice.choice(VERSIONS)])
    head = end.join([line, *(name + dice.choice([b": ", b":", b" : ", b":\t"]) + value for name, value in pairs), b"", b""])
    body = b"".join(dice.choice(CHUNKS) for _ in range(dice.randrange(4)))
    return head + dice.choice([b"", body, b"hello"])


def conversation(dice: random.Random) -> list[bytes]:
    """What is said over one connection, in the pieces that it is said in: requests, some of whose bytes are broken."""
    said = bytearray(b"".join(request(dice) for _ in range(dice.randrange(1, 5))))
    for _ in range(dice.choice([0, 0, 1, 3])):
        at = dice.randrange(len(said))
        match dice.randrange(4):
            case 0:
                said[at] ^= 1 << dice.randrange(8)
            case 1:
                del said[at : at + dice.randrange(1, 20)]
            case 2:
                said[at:at] = said[at : at + dice.randrange(1, 20)]
            case _:
                said[at:at] = bytes([dice.randrange(256)])
        said = said or bytearray(b"\n")
    cuts = sorted(dice.randrange(len(said) + 1) for _ in range(dice.randrange(4)))
    return [bytes(said[a:b]) for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True)]
