"""Connections across a hand-over: what the old master says of them, and how the new one goes on.

What must live here: what is carried of a connection, and what becomes of connections after a crash.
What this file must not know: the rest of the snapshot.

A connection that is quiet costs a hand-over nothing but its name.
"""

from __future__ import annotations

from typing import Any

from rocksyd.errors import SnapshotError
from rocksyd.master.desk.clients import Client, Clients
from rocksyd.master.desk.page import AUTHORISED
from rocksyd.master.snapshot import Snapshot
from rocksyd.shelf_names import BUSY
from rocksyd.wire.connection import Connection

_PLAIN = ("held", "closing", "eof", "waits", "linger_until")
"""What is carried as it is, unless it is as it was with a new connection."""


def carry(clients: Clients, snapshot: Snapshot) -> None:
    """Carry the connections; before anything else it is seen that they are all there."""
    snapshot.parts["connections"] = (lambda: _connections(clients), lambda expected: _check(clients, expected))
    snapshot.parts["clients"] = (lambda: _dump_all(clients, snapshot), lambda carried: _load_all(clients, snapshot, carried))


def adopted_all(clients: Clients) -> None:
    """Every connection has been taken over: the other slots of the page are free, and who is authorised stands in it."""
    page = clients.page
    page.taken({client.slot for client in clients.by_number.values()})
    for client in clients.by_number.values():
        client.authorised = page.of[client.slot] & AUTHORISED != 0
        if not client.authorised:
            clients.await_token(client)  # a hand-over says until when, a crash does not


def drop_busy(clients: Clients) -> None:
    """After a crash: a connection in the middle of something is closed, so that nobody is left hanging or out of step."""
    adopted_all(clients)
    for client in list(clients.by_number.values()):
        if clients.page.of[client.slot] & BUSY:
            clients.close(client)


def _connections(clients: Clients) -> dict[str, int]:
    """The inode of each connection, by its name on the shelf."""
    return {client.name: client.inode for client in clients.by_number.values()}


def _check(clients: Clients, expected: dict[str, int]) -> None:
    """Every connection that the snapshot speaks of must be here, no other, and be the same file. Raises SnapshotError."""
    here = _connections(clients)
    if here != expected:
        missing, extra = sorted(expected.keys() - here.keys())[:5], sorted(here.keys() - expected.keys())[:5]
        other = sorted(name for name in expected.keys() & here.keys() if expected[name] != here[name])[:5]
        raise SnapshotError(f"connections do not match the manifest: missing {missing}, unexpected {extra}, another file {other}")


def _dump_all(clients: Clients, snapshot: Snapshot) -> dict[int, dict[str, Any]]:
    """What each connection that is not quiet has, by its number."""
    return {client.number: _dump(client, snapshot) for client in clients.by_number.values() if not client.quiet}


def _dump(client: Client, snapshot: Snapshot) -> dict[str, Any]:
    fields: dict[str, Any] = {name: value for name in _PLAIN if (value := getattr(client, name))}
    if client.connection.has_line or client.connection.buffered:
        fields["in"] = snapshot.put(client.connection.buffered)
    if client.out:
        fields["out"] = snapshot.put(client.out)
    if client.connection.closed:
        fields["closed"] = True
    if not client.authorised:
        fields["prove_by"] = client.prove_by
    if client.batches:
        fields["batches"] = {str(n): [left, [d.decode() for d in parts]] for n, (left, parts) in client.batches.items()}
    return fields


def _load_all(clients: Clients, snapshot: Snapshot, carried: dict[str, dict[str, Any]]) -> None:
    """Give every connection back what it had."""
    adopted_all(clients)
    for number, fields in carried.items():
        client = clients.by_number[int(number)]
        _load(client, snapshot, fields)
        clients.dirty.add(client)
        if client.pressing:
            clients.waiting[client] = None
        if client.linger_until:
            clients.awaited.add(client)


def _load(client: Client, snapshot: Snapshot, fields: dict[str, Any]) -> None:
    buffered, closed = snapshot.get(fields.get("in", [0, 0])), bool(fields.get("closed"))
    client.connection = Connection.restore(buffered, max_line=client.owner.config.max_line, closed=closed)
    client.ahead = len(buffered)
    client.out = bytearray(snapshot.get(fields.get("out", [0, 0])))
    for name in (*_PLAIN, "prove_by"):
        if name in fields:
            setattr(client, name, fields[name])
    client.batches = {int(n): [left, [d.encode() for d in parts]] for n, (left, parts) in fields.get("batches", {}).items()}
    if client.held:
        client.reserve()
