"""Who lives and whose end has not been acknowledged yet: bookkeeping that never forks and never sends.

A child belongs to the master that had it spawned until that master serves (owner 0: the service's). A master that fails
before it serves takes its children with it: they are *doomed*, their names are free at once, and nobody is told of their end.
"""

from __future__ import annotations

from collections.abc import Iterable

from rocksyd.messages import Exited
from rocksyd.posix.processes import Ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Child:
    """One living child that is not a master."""

    __slots__ = ("name", "owner")

    def __init__(self, name: str, owner: int) -> None:
        self.name = name
        self.owner = owner


class Exit:
    """One end that has to be acknowledged."""

    __slots__ = ("message", "owner", "told")

    def __init__(self, message: Exited, owner: int, told: int = 0) -> None:
        self.message = message
        self.owner = owner
        self.told = told
        """Number of the master it was told last."""


class Children:
    """The keeper's children without the masters."""

    def __init__(self) -> None:
        self.living: dict[int, Child] = {}
        self.exits: list[Exit] = []
        self._doomed: set[int] = set()

    def add(self, pid: int, name: str, owner: int) -> None:
        """A child was spawned for ``owner``."""
        self.living[pid] = Child(name, owner)

    def pid_of(self, name: str) -> int:
        """PID of the living child with this name; 0 when there is none."""
        return next((pid for pid, child in self.living.items() if child.name == name), 0)

    def forget(self, pid: int) -> None:
        """It never became a program of its own: its end is nobody's news."""
        self.living.pop(pid, None)
        self._doomed.add(pid)

    def names(self, owner: int = 0) -> dict[str, int]:
        """Name -> PID of the living children that belong to the service or to ``owner``."""
        return {child.name: pid for pid, child in self.living.items() if child.owner in (0, owner)}

    def ended(self, end: Ended) -> None:
        """A child, or an orphan nobody named, was reaped."""
        child = self.living.pop(end.pid, None)
        if end.pid in self._doomed:
            self._doomed.discard(end.pid)
            return
        name, owner = (child.name, child.owner) if child else ("", 0)
        self.exits.append(Exit(Exited(end.pid, end.status, name, 0, end.cpu, end.max_rss), owner))

    def untold(self, master: int, *, serving: bool) -> list[Exited]:
        """Ends that ``master`` has not been told, oldest first; from now on it counts as told."""
        news = [one for one in self.exits if one.told != master and (one.owner == master or (serving and one.owner == 0))]
        for one in news:
            one.told = master
        return [one.message for one in news]

    def acknowledged(self, pids: Iterable[int]) -> None:
        """The ends of these are in the journal. A PID can have ended twice; the older one is meant, as it was told first."""
        for pid in pids:
            position = next((at for at, one in enumerate(self.exits) if one.message.pid == pid and one.told), None)
            if position is not None:
                del self.exits[position]

    def promote(self, owner: int) -> None:
        """``owner`` serves: what it spawned is the service's, and every end is to be told it."""
        for child in self.living.values():
            if child.owner == owner:
                child.owner = 0
        for one in self.exits:
            if one.owner == owner:
                one.owner = 0

    def doom(self, owner: int) -> list[int]:
        """``owner`` failed; returns the PIDs of its children, which are to be killed."""
        pids = [pid for pid, child in self.living.items() if child.owner == owner]
        for pid in pids:
            self.forget(pid)
        self.exits = [one for one in self.exits if one.owner != owner]
        return pids

    def dump(self) -> dict[str, Any]:
        """Plain data for ``load``."""
        return {
            "living": [[pid, child.name, child.owner] for pid, child in self.living.items()],
            "doomed": sorted(self._doomed),
            "exits": [[list(one.message), one.owner, one.told] for one in self.exits],
        }

    @classmethod
    def load(cls, state: dict[str, Any]) -> Children:
        """The bookkeeping that ``dump`` described."""
        self = cls()
        for pid, name, owner in state.get("living", ()):
            self.add(int(pid), str(name), int(owner))
        self._doomed = {int(pid) for pid in state.get("doomed", ())}
        for message, owner, told in state.get("exits", ()):
            self.exits.append(Exit(Exited(*message), int(owner), int(told)))
        return self
