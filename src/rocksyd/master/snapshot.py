"""What goes from one master to the next: a table of what each part puts into the snapshot, and of how it takes that back.

What must live here: the form of a snapshot, the order of the parts, the check of descriptors.
What this file must not know: any part; when a snapshot is written and read (``handover``, ``candidate``).

Carried: the engine's snapshot, of each connection what was read and not answered and what is owed and not sent, who waits for
what, orders under way, counters. Not carried: runs (the journal has them), epoll registrations, timers (they follow).

A snapshot is one memfd: a line of JSON, then bytes, which the JSON points into by place and length. The version before and the
one after read it: members are added, never renamed; unknown ones are ignored, and a missing one is taken for empty.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from rocksyd import __version__
from rocksyd.errors import SnapshotError
from rocksyd.posix.channel import Channel, read_memfd
from rocksyd.shapes import MAX_INSIDE, deeper_than

FORMAT = 1


Part = tuple[Callable[[], Any], Callable[[Any], None]]
"""What a part puts into the snapshot, as plain data, and how the next master's takes it back."""
Descriptors = Callable[[], Iterable[tuple[str, int]]]
"""Gives names and descriptors."""


class Snapshot:
    """The parts of a master that another one goes on with: each by its member of the snapshot, in the order of taking it back."""

    def __init__(self) -> None:
        self.fields: dict[str, object] = {}
        """Attributes that are carried as they are, and whose they are."""
        self.parts: dict[str, Part] = {}
        self.adopted_parts: dict[str, Part] = {}
        """Those that take back what is theirs when ADOPTED has been said: it cannot be undone."""
        self.last_words: list[Callable[[], object]] = []
        """What is done before it is written."""
        self.channels: list[Callable[[], Iterable[Channel]]] = []
        """Those that are flushed before it is written."""
        self.loose: list[Descriptors] = []
        """Those that go with it, because they are not on the shelf."""
        self.manifest: list[Descriptors] = []
        """Those that the next master must have."""
        self.shelf: dict[str, int] = {}
        """The descriptors that this master has been given and that no part has taken yet."""
        self.children: dict[str, int] = {}
        """The keeper's children at that time: name -> PID."""
        self.members: dict[str, Any] = {}
        """What the master before has written; nothing, unless it handed over."""
        self._body = bytearray()

    # --- the old master -----------------------------------------------------------------------------------------------
    def put(self, data: bytes | bytearray) -> list[int]:
        """Carry bytes; returns their place and length."""
        self._body += data
        return [len(self._body) - len(data), len(data)]

    def dump(self, frozen_at: float) -> bytes:
        """The snapshot of a master that has been frozen since then (CLOCK_MONOTONIC seconds)."""
        header: dict[str, Any] = {"format": FORMAT, "version": __version__, "frozen_at": frozen_at}
        header |= {name: getattr(part, name) for name, part in self.fields.items()}
        header["listeners"] = {name: os.fstat(fd).st_ino for give in self.manifest for name, fd in give()}
        header |= {name: dump() for name, (dump, _) in (*self.parts.items(), *self.adopted_parts.items())}
        body, self._body = self._body, bytearray()
        header["bytes"] = len(body)
        return b"".join([json.dumps(header, separators=(",", ":")).encode(), b"\n", body])

    # --- the new master -----------------------------------------------------------------------------------------------
    def get(self, place: list[int]) -> bytes:
        """The bytes with this place and length."""
        return bytes(self._body[place[0] : sum(place)])

    def read(self, fd: int) -> None:
        """Read what the master before has written, and check its manifest. The descriptor is closed. Raises SnapshotError."""
        self.members, self._body = parse(fd)
        for name, inode in self.members.get("listeners", {}).items():
            self._check(name, inode)

    def claim(self, name: str, inode: int) -> int:
        """Take this descriptor off the shelf, which must be that file. Raises SnapshotError."""
        self._check(name, inode)
        return self.shelf.pop(name)

    def _check(self, name: str, inode: int) -> None:
        fd = self.shelf.get(name)
        if fd is None or os.fstat(fd).st_ino != inode:
            raise SnapshotError(f"descriptor {name} of the manifest is {'missing' if fd is None else 'another file'}")

    def facts(self, now: float) -> dict[str, Any]:
        """For the audit record: how long clients have waited ``now`` (CLOCK_MONOTONIC seconds), and what was carried."""
        if not self.members:
            return {}
        waited = round((now - self.members["frozen_at"]) * 1000, 2)
        return {"waited_ms": waited, "bytes": self.members["bytes"], "from": self.members["engine"]["generation"]}

    def load(self) -> None:
        """Let each part take back what is its own; nothing of that is seen outside. Raises SnapshotError."""
        for name, part in self.fields.items():
            setattr(part, name, self.members.get(name, getattr(part, name)))
        self._load(self.parts)

    def load_adopted(self) -> None:
        """ADOPTED has been said: let the others take back what is theirs."""
        self._load(self.adopted_parts)
        self.members, self._body = {}, bytearray()

    def _load(self, parts: dict[str, Part]) -> None:
        for name, (_, load) in parts.items():
            load(self.members.get(name, {}))


def parse(fd: int) -> tuple[dict[str, Any], bytearray]:
    """The members of a snapshot and the bytes that they point into; its descriptor is closed. Raises SnapshotError."""
    try:
        head, _, body = read_memfd(fd).partition(b"\n")
    finally:
        os.close(fd)
    try:
        members = json.loads(head)
        if deeper_than(members, MAX_INSIDE):
            raise SnapshotError(f"the snapshot nests deeper than {MAX_INSIDE} levels")
        if int(members["format"]) > FORMAT:
            raise SnapshotError(f"the snapshot has format {members['format']}, this version ({__version__}) knows {FORMAT}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SnapshotError(f"the snapshot cannot be read: {error}") from error
    return members, bytearray(body)
