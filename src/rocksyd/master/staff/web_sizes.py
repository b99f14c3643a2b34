"""How much is asked of web pools: their workers' pages and their listening sockets are looked at while something goes on.

What must live here: when to look, and what is seen. What this file must not know: what follows from it (``core.web``).

Nobody looks while nothing goes on: a worker says when requests come in (SERVING without a page), at most some times a second, and
where a pool has no worker its listening sockets wake the master.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable

from rocksyd.core.web import WebPool
from rocksyd.core.web_crew import Sample
from rocksyd.master.barrier import Stranger
from rocksyd.master.staff.web_links import WebLinks
from rocksyd.master.staff.web_sockets import WebSockets
from rocksyd.posix import webpage
from rocksyd.posix.backlog import Backlogs
from rocksyd.posix.processes import resident_memory

LOOK = 0.1
"""Seconds between two looks."""
AWAKE = 1.0
"""Seconds for which it is looked after somebody has said that something goes on."""


WINDOW = 10.0
"""Seconds over which requests a second are told."""
_STEP = 0.5
"""Seconds between two moments that are remembered for that."""


class Waker(Stranger):
    """A listening socket of a pool that has no worker."""

    kind = "client"

    def __init__(self, sizes: WebSizes, pool: WebPool) -> None:
        self._sizes, self._pool = sizes, pool

    def __str__(self) -> str:
        return f"a client of {self._pool.name}"

    def handle(self, events: int) -> None:
        """Somebody has come."""
        self._sizes.wake(self._pool)

    def broken(self, reason: str) -> None:
        """Nothing of it is to be ended: whoever has come waits."""


class WebSizes:
    """The looks at all pools."""

    def __init__(self, links: WebLinks, sockets: WebSockets, act: Callable[[WebPool], None]) -> None:
        self._links, self._sockets, self._act = links, sockets, act
        self._at: float | None = None
        self._awake_until = 0.0
        self._backlogs = Backlogs()
        self._watched: dict[int, Waker] = {}
        self.peaks: dict[str, int] = {}
        """Pool id -> the most connections that have waited."""
        self._history: dict[str, deque[tuple[float, int]]] = {}
        """Pool id -> moments, and how many requests had been answered by then; the first is the last before the WINDOW."""
        self.gone: dict[str, list[int]] = {}
        """Pool id -> what the workers that are no more have counted."""

    def stirred(self) -> None:
        """Something goes on: look at it, for a while."""
        now = time.monotonic()
        self._awake_until = now + AWAKE
        if self._at is None or self._at > now + LOOK:
            self._at = now + LOOK

    def next_look(self) -> float | None:
        """CLOCK_MONOTONIC seconds of the next look; None for never."""
        return self._at

    def look(self, pools: dict[str, WebPool], now: float) -> None:
        """Look, if it is time to."""
        if self._at is None or now < self._at:
            return
        self._at = now + LOOK if now < self._awake_until else None
        due: list[float] = []
        for pool in pools.values():
            due += [
                link.page["deadline"] / 1000 for link in self._links.values() if link.page is not None and link.page["deadline"]
            ]
            samples = self.samples(pool, now)
            self._note(pool.name, sum(sample.requests for sample in samples.values()), now)
            pool.look(samples, self.waiting(pool.name), now)
            self._act(pool)
            again = pool.next_look(now)
            if again and (self._at is None or again < self._at):
                self._at = max(again, now + LOOK)
        if due and (self._at is None or min(due) < self._at):
            self._at = max(min(due), now + LOOK)

    def samples(self, pool: WebPool, now: float) -> dict[int, Sample]:
        """What the workers' pages say."""
        watched = bool(pool.policy.max_rss or pool.policy.max_rss_hard)
        found = {}
        for number in pool.workers:
            link = self._links.get(number)
            if link is None or link.page is None:
                continue
            page = link.page
            memory = resident_memory(link.pid) if watched else 0
            stuck = 0 < page["deadline"] < now * 1000
            found[number] = Sample(page["in_flight"], page["requests"], memory or 0, stuck, bool(page["spent"]))
        return found

    def _note(self, pool: str, requests: int, now: float) -> None:
        history = self._history.setdefault(pool, deque())
        if not history or now - history[-1][0] >= _STEP:
            gone = self.gone.get(pool)
            history.append((now, requests + (gone[0] if gone else 0)))
        while len(history) > 1 and history[1][0] <= now - WINDOW:
            history.popleft()

    def rate(self, pool: str, requests: int, now: float) -> float:
        """Requests a second within the last WINDOW, of a pool that has answered so many."""
        history = self._history.get(pool)
        if not history:
            return 0.0
        at, count = next((one for one in reversed(history) if one[0] <= now - WINDOW), history[0])
        return max(0, requests - count) / max(1.0, min(WINDOW, now - at))

    def waiting(self, pool: str) -> int:
        """Connections that wait to be accepted."""
        waiting = sum(self._backlogs.waiting(fd) for fd in self._sockets.listening(pool))
        self.peaks[pool] = max(self.peaks.get(pool, 0), waiting)
        return waiting

    def counted(self, pool: str, pages: list[webpage.Page]) -> list[int]:
        """What workers have counted, those that are no more as well, and those that have these pages."""
        total = self.gone.get(pool) or webpage.nothing()
        for page in pages:
            total = [a + b for a, b in zip(total, page.grown(), strict=True)]
        return total

    def count_out(self, pool: str, page: webpage.Page | None) -> None:
        """A worker is no more: keep what it has counted."""
        if page is not None:
            total = self.gone.get(pool) or webpage.nothing()
            self.gone[pool] = [a + b for a, b in zip(total, page.grown(), strict=True)]
            page.close()

    # --- a pool without workers ---------------------------------------------------------------------------------------
    def attend(self, pool: WebPool) -> None:
        """Where nobody is there to accept, be woken by who comes: one will be forked for that."""
        for fd in self._sockets.listening(pool.name):
            if pool.unattended and fd not in self._watched:
                self._watched[fd] = Waker(self, pool)
                self._links.loop.register(fd, self._watched[fd], select.EPOLLIN)
            elif not pool.unattended:
                self._unwatch(fd)

    def wake(self, pool: WebPool) -> None:
        """Somebody has come to a pool without workers."""
        now = time.monotonic()
        for fd in self._sockets.listening(pool.name):
            self._unwatch(fd)  # if nothing can be forked now it is looked at again by time
        pool.look(self.samples(pool, now), max(1, self.waiting(pool.name)), now)
        self.stirred()
        if not pool.unattended:
            self._act(pool)

    def _unwatch(self, fd: int) -> None:
        if self._watched.pop(fd, None) is not None:
            self._links.loop.unregister(fd)

    def close(self) -> None:
        """Be woken by nobody any longer."""
        for fd in list(self._watched):
            self._unwatch(fd)
