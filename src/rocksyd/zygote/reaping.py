"""The ends of workers: reaped, told, and what is left of a worker's group seen to its end.

What must live here: waiting for processes, and zombies that are kept for the sake of their group's number.
What this file must not know: how a worker is forked, why one was killed, the channel.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from rocksyd import messages
from rocksyd.worker import output
from rocksyd.worker.leftover import Leftovers
from rocksyd.zygote import processes
from rocksyd.zygote.children import Child, Children, Exit
from rocksyd.zygote.groups import Groups

_NAMED = 3
"""Processes that are named in the log, of those that a worker has left."""


class Reaper:
    """Sees the children of one zygote to their end."""

    def __init__(self, children: Children, groups: Groups, grace: float, say: Callable[[Any], None]) -> None:
        self.leftovers = Leftovers()
        self._grace = grace
        self._children = children
        self._groups = groups
        self._say = say

    def reap(self) -> None:
        """Reap whoever has ended, and tell."""
        for pid in self._ended():
            child = self._children.get(pid)
            if child is None:
                os.waitpid(pid, 0)  # left behind by the preload
            elif (left := processes.left_in_group(pid)) and self._is_to_end(child, left):
                self._keep_zombie(child)
            else:
                self._bury(child)

    def _is_to_end(self, child: Child, left: list[int]) -> bool:
        """Whether those that a worker has left in its group are ended: always where it was killed, else as its runs have said."""
        if child.killed:
            return True
        grace = self.leftovers.grace(child.place, self._grace)
        if grace is None:
            return False
        child.killed = child.soft = True
        child.grace = grace
        some = ", ".join(f"{pid} ({processes.name_of(pid)})" for pid in left[:_NAMED])
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        output.note(f'worker {child.worker} of {child.pool} has left {some}{more}: ended, because leftover is not "keep"')
        return True

    def _ended(self) -> Iterator[int]:
        """PIDs of children that have ended, each to be reaped (or kept as a zombie) before the next is asked for."""
        while not self._children.dead_leaders:
            pid = processes.first_ended()
            if pid is None:
                return
            yield pid
        # A zombie that is kept would be found again and again: ask one by one, while there is one.
        for child in self._children.living:
            if processes.has_ended(child.pid):
                yield child.pid

    def _bury(self, child: Child) -> None:
        """Reap it and tell."""
        _, status, usage = os.wait4(child.pid, 0)
        cpu, max_rss = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
        oom = self._groups.out_of_memory(child.worker)
        self._forget(child)
        self._tell(Exit(child.worker, child.pid, status, cpu, max_rss, oom))

    def _keep_zombie(self, child: Child) -> None:
        """Tell of the leader's end now; its PID, which is the group's number, stays taken while others live in the group."""
        status, cpu = processes.zombie_status(child.pid), processes.zombie_cpu(child.pid)
        self._children.keep_dead(child, time.monotonic())
        if child.soft:  # the others have heard nothing yet
            processes.signal_group(child.pid, signal.SIGTERM)
        self._tell(Exit(child.worker, child.pid, status, cpu, child.max_rss, self._groups.out_of_memory(child.worker)))

    def _tell(self, exit_: Exit) -> None:
        self._children.told(exit_)
        pid, status = exit_.pid, exit_.status
        self._say(
            messages.Exited(pid=pid, status=status, worker=exit_.worker, cpu=exit_.cpu, max_rss=exit_.max_rss, oom=exit_.oom)
        )

    def _forget(self, child: Child) -> None:
        self._children.remove(child.pid)
        self.leftovers.give_back(child.place)
        self._groups.remove(child.worker, time.monotonic())
        if child.channel >= 0:
            os.close(child.channel)
            child.channel = -1

    def look_at_groups(self, now: float) -> None:
        """End killed groups whose grace is over, and let go of leaders whose group has ended."""
        for child in self._children.dead_leaders:
            if child.look_at > now:
                continue
            assert child.group_deadline is not None
            over = now >= child.group_deadline
            if over:
                self._groups.kill(child.worker)
                processes.signal_group(child.pid, signal.SIGKILL)
            if over or not processes.left_in_group(child.pid):
                os.waitpid(child.pid, 0)
                self._forget(child)
            else:
                self._children.look_later(child, now)
