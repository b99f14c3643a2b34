"""The form in which a service goes from one worker to the next: a line of JSON, then bytes, which the JSON points into.

What must live here: writing and reading it. What this file must not know: sockets, workers, who gives it to whom.

Versions of rocksyd read each other's: fields are added at the end of a row, never moved; a missing one takes its default.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from rocksyd.errors import JobError

FORMAT = 1


class Carried(NamedTuple):
    """What is carried of a connection."""

    number: int
    peer: str = ""
    room: str | None = None
    state: Any = None
    unread: bytes = b""
    """What has been read and is no whole message that was handled."""
    handled: int = 0
    """Messages at the beginning of ``unread`` that were handled all the same."""
    unsent: bytes = b""
    greeted: bool = True
    """Whether ``connected`` was called."""
    closing: bool = False
    settled: bytes = b""
    """What there is to read again where ``unread`` is lost, in a crash: the handshake that was made."""


class Whole(NamedTuple):
    """Everything."""

    version: int
    """The ``state_version`` of the code that wrote it."""
    state: Any
    connections: list[Carried]
    timers: list[tuple[float, str, list[Any]]]
    """CLOCK_MONOTONIC seconds, method, arguments."""


def write(whole: Whole) -> bytes:
    """Raises JobError where something is no plain data; the message says where."""
    body = bytearray()

    def put(data: bytes) -> list[int]:
        body.extend(data)
        return [len(body) - len(data), len(data)]

    rows = [
        [c.number, c.peer, c.room, c.state, put(c.unread), c.handled, put(c.unsent), c.greeted, c.closing, put(c.settled)]
        for c in whole.connections
    ]
    for row in rows:
        check(row[3], f"the state of connection {row[0]}")
    check(whole.state, "what dump returned")
    for _, method, args in whole.timers:
        check(args, f"an argument of after(..., {method!r})")
    document = {
        "format": FORMAT, "version": whole.version, "state": whole.state, "connections": rows, "timers": whole.timers,
    }  # fmt: skip
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode() + b"\n" + body
    except (ValueError, RecursionError) as error:
        raise JobError(f"the state of the service cannot be carried: {error}") from error


def read(data: bytes) -> Whole:
    """Raises JobError."""
    head, _, body = data.partition(b"\n")
    try:
        document = json.loads(head)
        if document["format"] > FORMAT:
            raise JobError(f"the state of the service has format {document['format']}, this version knows {FORMAT}")
        found = [_carried(row, body) for row in document["connections"]]
        timers = [(float(at), str(method), list(args)) for at, method, args, *_ in document["timers"]]
        return Whole(int(document["version"]), document["state"], found, timers)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise JobError(f"the state of the service cannot be read: {error}") from error


def _carried(row: list[Any], body: bytes) -> Carried:
    number, peer, room, state, unread, handled, unsent, greeted, closing, settled, *_ = row

    def get(place: list[int]) -> bytes:
        return body[place[0] : sum(place)]

    return Carried(number, peer, room, state, get(unread), handled, get(unsent), greeted, closing, get(settled))


def check(value: Any, what: str) -> None:
    """JSON would make text of a key that is none, and of a tuple a list: new code would find something else than there was.

    Raises:
        JobError: there is something that does not come back as it is.
    """
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return
    if kind is dict:
        for key, inner in value.items():
            if type(key) is not str:
                raise JobError(f"{what} has the key {key!r}: keys are text in plain data; write {str(key)!r}")
            check(inner, what)
    elif kind in (list, tuple):
        for inner in value:
            check(inner, what)
    else:
        raise JobError(f"{what} has a {kind.__name__}, which is no plain data: only what JSON has can be carried to new code")
