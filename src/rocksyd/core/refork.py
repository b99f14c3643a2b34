"""Refork: a warmed-up worker becomes the template of its pool's next workers, and stays it if that is seen to save memory.

What must live here: when to look, which worker to take, and whether it has paid.
What this file must not know: how memory is looked at, how a worker becomes a template, how workers are replaced.

A worker's memory is what it shares with where it was forked from and what it has for itself: caches that its jobs have filled,
modules they have imported, pages of shared objects that were written to. Only the second part grows with the number of workers,
and only some of it can be shared: a page that every worker writes to is copied by every worker again. So nobody can know
beforehand what a template saves. It is tried, and measured at the same age of the workers:

    saved = workers x (what one had for itself before - what one has for itself now) - what the template has for itself

(in sums of proportional set sizes, of which this is the difference.) The zygote stays: it is what the pool goes back to when
the template does not pay, cannot be forked from, or dies. There is one template a pool for as long as the code is the same:
what jobs leak would be handed down from template to template.

After a failure or a loss it is tried again at twice the age: an application may warm up slowly, and the tries become rare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rocksyd.core.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


NONE, LOOKING, CHOOSING, TRYING, WARMING, WEIGHING, KEPT = (
    "none", "looking", "choosing", "trying", "warming", "weighing", "kept",
)  # fmt: skip
"""Nothing yet; memory is being looked at; waits for a warm worker to be idle; one is becoming a template; its workers are not
warm yet; memory is being looked at again; it has paid."""
LEAST_SAVING = 4 * 1024**2
"""Bytes that a template must save: fewer are not worth a process that has to be understood."""
FEWEST = 2
"""Warm workers that are measured at least: what one alone has may be one job's."""


class Verdict(NamedTuple):
    """What a template has saved."""

    saved: int
    """Bytes, negative when it has cost more."""
    text: str
    """The same for people."""

    @property
    def pays(self) -> bool:
        """Whether it is worth keeping."""
        return self.saved >= LEAST_SAVING


class Refork:
    """The template of one pool, in one generation of the code."""

    def __init__(self) -> None:
        self.stage = NONE
        self.number = 0
        """The template's; 0 for none, and then workers are forked from the zygote."""
        self.before = 0
        """Bytes that a warm worker had for itself when there was no template."""
        self.cost = 0
        """Bytes that the template had for itself before it forked anybody."""
        self.saved = 0
        """Bytes, once it has been measured."""
        self._age = 0
        """Jobs that make a worker warm in this try; 0 for as many as the setting says."""

    @property
    def parent(self) -> int:
        """The template that workers are forked from; 0 for the zygote."""
        return self.number if self.stage in (WARMING, WEIGHING, KEPT) else 0

    def warm(self, workers: Iterable[Worker], after: int) -> list[Worker]:
        """The workers at work that have done their share of jobs and come from where workers are forked from now."""
        age = max(self._age, after)
        return [w for w in workers if w.state in ("idle", "busy") and w.jobs >= age and w.template == self.parent]

    # --- before -------------------------------------------------------------------------------------------------------
    def looks(self, workers: Iterable[Worker], after: int) -> bool:
        """Whether memory is to be looked at now: enough workers are warm."""
        stage = {NONE: LOOKING, WARMING: WEIGHING}.get(self.stage)
        if not after or stage is None or len(self.warm(workers, after)) < FEWEST:
            return False
        self.stage = stage
        return True

    def seen(self, sizes: Mapping[int, int], workers: Iterable[Worker], after: int) -> bool:
        """Take what workers have for themselves, bytes by number. Whether a template could pay; if not, later perhaps."""
        live = [worker for worker in workers if worker.state != "leaving"]
        mine = [sizes[worker.number] for worker in self.warm(live, after) if worker.number in sizes]
        self.before = sum(mine) // len(mine) if len(mine) >= FEWEST else 0
        if self.before * (len(live) - 1) < LEAST_SAVING:
            self._later(after)
            return False
        self.stage = CHOOSING
        return True

    def choose(self, workers: Iterable[Worker], after: int) -> Worker | None:
        """The worker to take: the warmest that is idle."""
        if self.stage != CHOOSING:
            return None
        idle = [worker for worker in self.warm(workers, after) if worker.state == "idle" and worker.sure]
        chosen = max(idle, key=lambda worker: worker.jobs, default=None)
        if chosen is not None:
            self.stage, self.number = TRYING, chosen.number
        return chosen

    def expects(self, number: int) -> bool:
        """Whether this is the template it waits for, or one that nobody knows of any more (after a crash of the master)."""
        return self.number in (0, number)

    # --- after --------------------------------------------------------------------------------------------------------
    def came(self, number: int, before: int, cost: int) -> None:
        """A template can be forked from; after a crash of the master it says itself what was measured before it."""
        self.stage, self.number, self.before, self.cost = WARMING, number, before, cost

    def weigh(self, sizes: Mapping[int, int], workers: Iterable[Worker], after: int) -> Verdict | None:
        """What the template has saved; None when not enough could be measured, and then it is looked at again later."""
        live = [worker for worker in workers if worker.state != "leaving"]
        mine = [sizes[worker.number] for worker in self.warm(live, after) if worker.number in sizes]
        if len(mine) < FEWEST:
            self.stage = WARMING
            return None
        now = sum(mine) // len(mine)
        self.saved = len(live) * (self.before - now) - self.cost
        what = "saves" if self.saved >= 0 else "costs"
        text = (
            f"{what} {_mib(abs(self.saved))}: {len(live)} workers have {_mib(now)} each for themselves instead of"
            f" {_mib(self.before)}, the template has {_mib(self.cost)}"
        )
        verdict = Verdict(self.saved, text)
        if verdict.pays:
            self.stage = KEPT
        else:
            self._later(after)
        return verdict

    def gone(self, number: int, after: int) -> bool:
        """The template is no more, or never was. Whether this is news."""
        if not number or number != self.number:
            return False
        self._later(after)
        return True

    def _later(self, after: int) -> None:
        self.stage, self.number, self.cost = NONE, 0, 0
        self._age = 2 * max(self._age, after)


def _mib(size: int) -> str:
    return f"{size / 1024**2:.1f} MiB"
