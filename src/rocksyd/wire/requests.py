"""What a client can say, as values: the vocabulary between the bytes and the decisions.

What must live here: one ``NamedTuple`` a request, whatever dialect it was said in; what orders a run is in ``model``, because the
engine takes it as it is.
What this file must not know: bytes, dialects, what becomes of a request.

A request is told apart by its type, never by comparison: named tuples of different types with the same content are equal
(``Check("1") == DaemonOrder("1")``), as tuples are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rocksyd.model import Free, Submit, Terminate

Json = Any
"""A value that JSON can carry."""
RpcId = str | int | float | None
"""The id of a JSON-RPC request (JSON-RPC 2.0, section 4)."""


class Check(NamedTuple):
    """Classic ``check``: how far is the run? ``key`` is the canonical decimal text of the caller's ``hash``."""

    key: str


class DaemonOrder(NamedTuple):
    """Classic order to the daemon itself: ``restart``, ``reload``, ``stop`` or ``drain``."""

    name: str


class Bye(NamedTuple):
    """Classic ``bye``: close the connection when what was owed is written. Nothing behind it is read."""


class Auth(NamedTuple):
    """Classic ``auth``: the token that a TCP client shows first."""

    token: str


class Answer(NamedTuple):
    """A request that needs no decision: send ``data`` in its turn; with ``close`` close the connection after it."""

    data: bytes
    close: bool = False


class Call(NamedTuple):
    """A JSON-RPC request; with ``notify`` a notification, which is never answered, not even with an error."""

    id: RpcId
    method: str
    params: dict[str, Json] | list[Json]
    """``{}`` when left out."""
    notify: bool = False


class Batch(NamedTuple):
    """JSON-RPC requests that were sent as one array; the answers (not the notifications') go back as one array.

    An ``Answer`` among the calls is the reply to an element that is no request, and belongs into the same array.
    """

    calls: tuple[Call | Answer, ...]


class Stats(NamedTuple):
    """memcached ``stats``, with the words behind it."""

    arguments: tuple[str, ...] = ()


class Version(NamedTuple):
    """memcached ``version``."""


class Quit(NamedTuple):
    """memcached ``quit``: like ``Bye``."""


Request = Check | Submit | Terminate | Free | DaemonOrder | Bye | Auth | Answer | Call | Batch | Stats | Version | Quit
"""Everything ``Connection.next_request`` can give."""
