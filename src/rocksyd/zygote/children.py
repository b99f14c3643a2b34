"""The workers a zygote has forked, and the exits it still has to tell of.

What must live here: bookkeeping. What this file must not know: fork, kill, wait, the channel. It is tested with invented PIDs.
"""

from __future__ import annotations

from typing import NamedTuple

FIRST_LOOK = 0.02
"""Seconds after which a killed group whose leader is dead is looked at again; doubled each time."""


class Child:
    """A worker that has not been reaped."""

    __slots__ = (
        "channel", "grace", "group_deadline", "killed", "look_at", "max_rss", "pause", "pid", "place", "pool", "promoted", "slot",
        "soft", "worker",
    )  # fmt: skip

    def __init__(self, worker: int, pid: int, pool: str, slot: int, channel: int) -> None:
        self.worker = worker
        self.pid = pid
        self.pool = pool
        self.slot = slot
        self.channel = channel
        """Duplicate of the master's end; -1 once closed."""
        self.place = -1
        """Where it says what becomes of the processes that it leaves in its group; -1 for nowhere."""
        self.promoted = False
        """It is a worker no longer but a template: it speaks for itself, and has workers of its own to see to their end."""
        self.killed = False
        self.soft = False
        """It was left to end by itself: TERM is still to come for the rest of its group."""
        self.grace = 0.0
        self.max_rss = 0
        """Bytes, as of the last KILL: a zombie that is kept does not tell any more."""
        self.group_deadline: float | None = None
        """Set when the leader is dead but others live in its killed group: when they are killed and it is reaped."""
        self.look_at = 0.0
        self.pause = FIRST_LOOK


class Exit(NamedTuple):
    """An exit not acknowledged yet."""

    worker: int
    pid: int
    status: int
    cpu: float
    max_rss: int
    oom: bool = False


class Children:
    """Who lives, whose leader is dead, what is not acknowledged."""

    def __init__(self) -> None:
        self._by_pid: dict[int, Child] = {}
        self._exits: list[Exit] = []

    def add(self, child: Child) -> None:
        """A new worker."""
        self._by_pid[child.pid] = child

    def get(self, pid: int) -> Child | None:
        """The worker that is ``pid``, if it has not been reaped."""
        return self._by_pid.get(pid)

    def remove(self, pid: int) -> None:
        """It has been reaped: the number may be somebody else's from now on."""
        del self._by_pid[pid]

    def told(self, exit_: Exit) -> None:
        """Its exit is known and is repeated until acknowledged."""
        self._exits.append(exit_)

    def acknowledge(self, pids: tuple[int, ...]) -> None:
        """Forget these exits. A PID can stand there twice (it was used again): the acknowledgement is for the older."""
        for pid in pids:
            for index, exit_ in enumerate(self._exits):
                if exit_.pid == pid:
                    del self._exits[index]
                    break

    @property
    def exits(self) -> list[Exit]:
        """Not acknowledged, oldest first."""
        return list(self._exits)

    @property
    def unreaped(self) -> list[Child]:
        """Living workers and dead leaders."""
        return list(self._by_pid.values())

    @property
    def living(self) -> list[Child]:
        """Workers whose leader has not ended."""
        return [child for child in self._by_pid.values() if child.group_deadline is None]

    @property
    def at_work(self) -> list[Child]:
        """Those of the living that are workers, and not templates."""
        return [child for child in self.living if not child.promoted]

    @property
    def dead_leaders(self) -> list[Child]:
        """Zombies kept because others live in their killed group."""
        return [child for child in self._by_pid.values() if child.group_deadline is not None]

    @property
    def none_left(self) -> bool:
        """All reaped and acknowledged."""
        return not self._by_pid and not self._exits

    def keep_dead(self, child: Child, now: float) -> None:
        """The leader ended, its group did not: look again soon, and end it when its grace is over."""
        child.group_deadline = now + child.grace
        child.look_at = min(now + child.pause, child.group_deadline)

    def look_later(self, child: Child, now: float) -> None:
        """Others still live in the group."""
        assert child.group_deadline is not None
        child.pause *= 2
        child.look_at = min(now + child.pause, child.group_deadline)

    def next_look(self) -> float | None:
        """When a killed group must be looked at; None when there is none."""
        return min((child.look_at for child in self.dead_leaders), default=None)
