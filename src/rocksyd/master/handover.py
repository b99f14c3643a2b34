"""The hand-over as the two masters do it: the old one freezes, the new one adopts.

What must live here: what is carried from one to the other, and how it is checked.
What this file must not know: the keeper's choreography.

Carried: the engine's snapshot, of each connection what was read and not answered and what is owed and not sent, who waits for
what, orders under way, counters. Not carried: runs (the journal has them), epoll registrations, timers (they follow).

A snapshot is one memfd: a line of JSON, then the bytes of connections, which the JSON points into by offset and length.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from rocksyd import __version__
from rocksyd import messages as m
from rocksyd.errors import ChannelClosed, SnapshotError
from rocksyd.journal.store import Journal
from rocksyd.master.clients import Client
from rocksyd.posix.channel import Channel, memfd, read_memfd
from rocksyd.wire.connection import Connection

if TYPE_CHECKING:
    from rocksyd.master.server import Server

FORMAT = 1
FLUSH_TIMEOUT = 1.0


# --- the old master ---------------------------------------------------------------------------------------------------
def freeze(server: Server) -> str:
    """Hand everything over, then wait for the verdict: leave, or go on as if nothing had been. Returns why it was called off."""
    began = time.monotonic()
    server.freezing = False
    server.stacks.give_up()
    unshelved = list(server.clients.unshelved)
    for client in unshelved:
        client.inode = os.fstat(client.fd).st_ino
    loose = [(client.name, client.fd) for client in unshelved]
    loose += [(f"worker:{w.number}", w.channel.fileno()) for w in server.children.workers.values() if not w.shelved]
    server.children.acknowledge_owed(server.children.acks.all())
    _flush_channels(server)
    server.journal.close()
    snapshot = memfd("snapshot", dump(server, began))
    *first, last = [loose[at : at + 200] for at in range(0, max(1, len(loose)), 200)]
    for part in first:
        server.keeper.send(m.Shelve(tuple(name for name, _ in part), tuple(fd for _, fd in part)))
    server.keeper.send(m.Frozen(tuple(name for name, _ in last), (snapshot, *(fd for _, fd in last))))
    os.close(snapshot)
    reason = _verdict(server)
    server.journal = Journal(server.journal.path, sync=server.config.journal.sync)
    server.children.tell_keeper(m.Unshelve(tuple(name for name, _ in loose)))
    return reason


def _flush_channels(server: Server) -> None:
    """Send what waits for zygotes and workers, as far as they take it. The end of one is told by whoever reads its channel."""
    until = time.monotonic() + FLUSH_TIMEOUT
    channels = [zygote.channel for zygote in server.children.zygotes.values()]
    channels += [worker.channel for worker in server.children.workers.values()]
    server.keeper.flush()
    while (channels := [channel for channel in channels if _has_more(channel)]) and time.monotonic() < until:
        time.sleep(0.001)


def _has_more(channel: Channel) -> bool:
    try:
        return not channel.flush()
    except ChannelClosed:
        return False


def _verdict(server: Server) -> str:
    """Block until the keeper says how it went; what else it says meanwhile is dealt with after a THAW."""
    while True:
        server.keeper.flush()
        message = server.keeper.wait(0.01 if server.keeper.pending else None)
        match message:
            case m.Retired():
                os._exit(0)
            case m.Thaw():
                return message.reason
            case None:
                continue
            case _:
                server.later.append(message)


def dump(server: Server, began: float) -> bytes:
    """The snapshot."""
    blobs: list[bytes] = []
    at = 0

    def blob(data: bytes) -> list[int]:
        nonlocal at
        blobs.append(data)
        at += len(data)
        return [at - len(data), len(data)]

    clients = {}
    for client in server.clients.by_number.values():
        if not client.quiet:
            clients[client.number] = _dump_client(client, blob)
    header = {
        "format": FORMAT,
        "version": __version__,
        "frozen_at": began,
        "started_at": server.generations.started_at,
        "restarts": server.generations.restarts,
        "crashes": server.generations.crashes,
        "accepted": server.clients.accepted,
        "served": server.commands.served,
        "engine": server.engine.snapshot(),
        "clients": clients,
        "connections": {client.name: client.inode for client in server.clients.by_number.values()},
        "listeners": {name: os.fstat(listener.fd).st_ino for name, listener in server.clients.listeners.items()},
        "zygotes": [[z.name, z.state, z.pid, z.ready._asdict() if z.ready else None] for z in server.children.zygotes.values()],
        "workers": [
            [w.number, w.pid, w.app, w.generation, os.fstat(w.channel.fileno()).st_ino, w.template]
            for w in server.children.workers.values()
        ],
        "waiters": server.waiters.dump(),
        "orders": server.generations.orders.dump(),
        "signals": server.stopping.signals,
        "drain_then_stop": server.stopping.when_drained,
        "bytes": at,
    }
    return b"".join([json.dumps(header, separators=(",", ":")).encode(), b"\n", *blobs])


def _dump_client(client: Client, blob: Any) -> dict[str, Any]:
    """What is not as it is with a quiet connection."""
    fields: dict[str, Any] = {}
    if client.connection.has_line or client.connection.buffered:
        fields["in"] = blob(client.connection.buffered)
    if client.out:
        fields["out"] = blob(bytes(client.out))
    for name in ("held", "closing", "eof", "waits", "linger_until", "batches"):
        value = getattr(client, name)
        if value:
            fields[name] = value
    if client.connection.closed:
        fields["closed"] = True
    if not client.authorised:
        fields["prove_by"] = client.prove_by
    if client.batches:
        fields["batches"] = {str(n): [left, [d.decode() for d in parts]] for n, (left, parts) in client.batches.items()}
    return fields


# --- the new master ---------------------------------------------------------------------------------------------------
def parse(fd: int) -> tuple[dict[str, Any], bytes]:
    """The header and the connections' bytes of a snapshot, whose descriptor is closed. Raises SnapshotError."""
    try:
        head, _, body = read_memfd(fd).partition(b"\n")
    finally:
        os.close(fd)
    try:
        header = json.loads(head)
        if int(header["format"]) > FORMAT:
            raise SnapshotError(f"the snapshot has format {header['format']}, this version ({__version__}) knows {FORMAT}")
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"the snapshot cannot be read: {error}") from error
    return header, body


def check_manifest(server: Server, header: dict[str, Any], loose: dict[str, int]) -> None:
    """Every descriptor that the snapshot speaks of must be here, and be the same file. Raises SnapshotError."""
    here = {client.name: client.inode for client in server.clients.by_number.values()}
    expected = header.get("connections", {})
    if here != expected:
        missing, extra = sorted(expected.keys() - here.keys())[:5], sorted(here.keys() - expected.keys())[:5]
        other = sorted(name for name in expected.keys() & here.keys() if expected[name] != here[name])[:5]
        raise SnapshotError(f"connections do not match the manifest: missing {missing}, unexpected {extra}, another file {other}")
    workers = {f"worker:{number}": inode for number, _, _, _, inode, *_ in header.get("workers", ())}
    for name, inode in {**workers, **header.get("listeners", {})}.items():
        fd = loose.get(name)
        if fd is None or os.fstat(fd).st_ino != inode:
            raise SnapshotError(f"descriptor {name} of the manifest is {'missing' if fd is None else 'another file'}")


def load_clients(server: Server, header: dict[str, Any], body: bytes) -> int:
    """Give every connection back what it had; returns the bytes carried."""
    server.clients.adopted_all()
    server.clients.accepted = header.get("accepted", 0)
    carried = 0
    for number, fields in header.get("clients", {}).items():
        client = server.clients.by_number[int(number)]
        carried += _load_client(server, client, fields, body)
        server.clients.dirty.add(client)
    return carried


def _load_client(server: Server, client: Client, fields: dict[str, Any], body: bytes) -> int:
    buffered, owed = (body[at : at + length] for at, length in (fields.get("in", (0, 0)), fields.get("out", (0, 0))))
    closed = bool(fields.get("closed"))
    client.connection = Connection.restore(buffered, max_line=server.config.max_line, closed=closed)
    client.ahead = len(buffered)
    client.out = bytearray(owed)
    for name in ("held", "closing", "eof", "waits", "linger_until", "prove_by"):
        if name in fields:
            setattr(client, name, fields[name])
    client.batches = {int(n): [left, [d.encode() for d in parts]] for n, (left, parts) in fields.get("batches", {}).items()}
    if client.held:
        client.reserve()
    elif client.connection.has_line and not closed:
        server.clients.waiting[client] = None
    if client.linger_until:
        server.clients.stuck.add(client)
    return len(buffered) + len(owed)
