"""The shelf: descriptors kept by name, so that they outlive the process that opened them.

Each master that is not serving yet has a *drawer*: what it shelves and unshelves while it prepares. At ADOPTED the drawer's
content becomes the shelf's; a failed master's drawer is emptied and the shelf was never touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from rocksyd import shelf_names


class Shelf:
    """Owns its descriptors: a name given again closes the descriptor that was kept under it."""

    def __init__(self, kept: dict[str, int] | None = None) -> None:
        self._kept = kept or {}
        self._drawers: dict[int, dict[str, int | None]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def get(self, name: str) -> int | None:
        """The descriptor under ``name``; None when there is none."""
        return self._kept.get(name)

    def items(self) -> dict[str, int]:
        """Name -> descriptor, a copy; the descriptors stay the shelf's."""
        return dict(self._kept)

    def put(self, names: Iterable[str], fds: Iterable[int]) -> list[str]:
        """Take over ``fds``; one without a name is closed. Returns the names."""
        taken = []
        waiting = list(fds)
        for name, fd in zip(names, waiting, strict=False):
            _close(self._kept.get(name))
            self._kept[name] = fd
            taken.append(name)
        for fd in waiting[len(taken) :]:
            os.close(fd)
        return taken

    def drop(self, names: Iterable[str]) -> list[str]:
        """Close what is kept under ``names``; returns those that were there."""
        gone = [name for name in names if name in self._kept]
        for name in gone:
            _close(self._kept.pop(name))
        return gone

    def drop_busy_connections(self) -> int:
        """Close each connection that was in the middle of something, as the page of the masters says; returns how many."""
        page = self._kept.get(shelf_names.BUSY_PAGE)
        if page is None:
            return 0
        connections = shelf_names.of(shelf_names.CONNECTION, self._kept)
        return len(self.drop([name for name in connections if _is_busy(page, shelf_names.connection_of(name)[1])]))

    # --- drawers ----------------------------------------------------------------------------------------------------
    def put_in_drawer(self, owner: int, names: Iterable[str], fds: Iterable[int]) -> None:
        """As ``put``, but only for ``owner`` until ``empty_drawer_onto_shelf``."""
        drawer = self._drawers.setdefault(owner, {})
        waiting = list(fds)
        for name in names:
            if waiting:
                _close(drawer.get(name))
                drawer[name] = waiting.pop(0)
        for fd in waiting:
            os.close(fd)

    def drop_in_drawer(self, owner: int, names: Iterable[str]) -> None:
        """As ``drop``; a name on the shelf itself goes when the owner begins to serve."""
        drawer = self._drawers.setdefault(owner, {})
        for name in names:
            _close(drawer.get(name))
            drawer[name] = None

    def empty_drawer_onto_shelf(self, owner: int) -> None:
        """The owner serves: what it shelved and unshelved holds for the shelf."""
        for name, fd in self._drawers.pop(owner, {}).items():
            self.drop((name,))
            if fd is not None:
                self._kept[name] = fd

    def throw_drawer_away(self, owner: int) -> None:
        """The owner failed: nothing of what it shelved remains."""
        for fd in self._drawers.pop(owner, {}).values():
            _close(fd)

    def clear(self) -> None:
        """Close everything."""
        for owner in list(self._drawers):
            self.throw_drawer_away(owner)
        self.drop(list(self._kept))


def _is_busy(page: int, slot: int) -> bool:
    byte = os.pread(page, 1, slot)
    return bool(byte) and byte[0] & shelf_names.BUSY != 0


def _close(fd: int | None) -> None:
    if fd is not None:
        os.close(fd)
