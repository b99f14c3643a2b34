"""What was decided about runs, on its way into the journal.

What must live here: what is not written yet, what is written but may not be on the disk, and what to do when it cannot be.
What this file must not know: clients, workers, why a run changed.
"""

from __future__ import annotations

from collections.abc import Callable

from rocksyd.errors import JournalError
from rocksyd.journal.store import Journal
from rocksyd.master.behind import Behind
from rocksyd.model import SCRIPT, Run
from rocksyd.posix.log import log

RETRY = 0.5
"""Seconds between two tries to write a journal that could not be written (a full disk)."""


class Writing:
    """Runs on their way to the disk: ``write`` makes them safe from the end of this process, ``sync`` from a power failure."""

    def __init__(self, journal: Callable[[], Journal], gone: Callable[[list[Run]], None]) -> None:
        self._journal = journal
        self._tell_gone = gone
        """Called with the runs that were erased, when that is sure."""
        self.trouble = ""
        """Why the journal cannot be written; "" when it can."""
        self.retry_at = 0.0
        """CLOCK_MONOTONIC seconds of the next try; 0 when none is due."""
        self._changed: dict[str, Run] = {}
        self._behind = Behind()
        self._erased: dict[str, Run] = {}
        self._written: dict[str, Run] = {}
        """What was written and may not be on the disk yet."""
        self._gone: dict[str, Run] = {}
        """What was erased in the same way."""
        self._lasting = False
        """Whether any of that has to outlast a power failure."""

    def put(self, run: Run) -> None:
        """This run has changed."""
        self._changed[run.key] = run

    def put_behind(self, run: Run, now: float, *, all_ends: bool) -> None:
        """The same of one that is written behind the answer; unless ``all_ends`` are kept not at all where it soon ends well."""
        self._behind.put(run, now, all_ends=all_ends)

    def erase(self, run: Run) -> None:
        """Nobody wants to know of this run any more."""
        self._erased[run.key] = run
        self._changed.pop(run.key, None)
        self._behind.discard(run.key)

    def find(self, key: str) -> Run | None:
        """The run under this key as it was decided last."""
        if key in self._erased and key not in self._changed:
            return None
        return self._changed.get(key) or self._journal().get(key)

    @property
    def waiting(self) -> bool:
        """Whether anything is not yet where it has to be."""
        return bool(self._changed or self._erased or self._written or self._lasting)

    @property
    def all_written(self) -> bool:
        """Whether the journal holds all that was decided."""
        return not self.waiting and not self._behind

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which something is to be written; None when nothing waits for that."""
        return self.retry_at or self._behind.next_deadline()

    def write_behind(self, now: float, *, everything: bool = False) -> None:
        """Write what the answers did not wait for, when it is time to, or because somebody is about to look."""
        if (everything and self._behind) or self._behind.due(now):
            self._changed = {**self._behind.take(now, everything=everything), **self._changed}
            if self.write(now):
                self.sync(now)

    def write(self, now: float) -> bool:
        """Commit what has changed; false while that is impossible, and then nothing of it may be said or done yet."""
        if not self._changed and not self._erased:
            return True
        if self.retry_at and now < self.retry_at:
            return False
        try:
            self._journal().commit(self._changed.values(), self._erased)
        except JournalError as error:
            self._in_trouble(error, now)
            return False
        self._lasting = self._lasting or bool(self._erased) or any(_must_last(run) for run in self._changed.values())
        self._written.update(self._changed)
        self._changed.clear()
        self._gone.update(self._erased)
        self._erased.clear()
        return True

    def sync(self, now: float) -> bool:
        """Wait for the disk, as far as the settings and what was written ask for it; false when it failed."""
        if not self._written and not self._lasting:
            return True
        try:
            if self._lasting:
                self._journal().sync()
        except JournalError as error:
            # After a failed fdatasync nobody knows what is on the disk: all of it is written anew (fsync(2)).
            self._changed = {**self._written, **self._changed}
            self._erased = {**self._gone, **self._erased}
            self._written.clear()
            self._gone.clear()
            self._in_trouble(error, now)
            return False
        self._written.clear()
        self._lasting = False
        if self._gone:
            self._tell_gone(list(self._gone.values()))
            self._gone.clear()
        if self.trouble:
            log("master", "the journal can be written again")
        self.trouble, self.retry_at = "", 0.0
        return True

    def _in_trouble(self, error: JournalError, now: float) -> None:
        if not self.trouble:
            log("master", f"the journal cannot be written, new runs are refused until it can: {error}")
        self.trouble = str(error)
        self.retry_at = now + RETRY


def _must_last(run: Run) -> bool:
    """Whether it has to outlast a power failure. A script or a call without a key ends with its caller: none is left to ask."""
    return run.kind != SCRIPT and not run.unnamed
