"""What was decided about runs, on its way into the journal.

What must live here: what is not written yet, what is written but may not be on the disk, and what to do when it cannot be.
What this file must not know: clients, workers, why a run changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rocksyd.errors import JournalError, JournalLocked
from rocksyd.journal.store import Journal, park
from rocksyd.journal.tables import TABLES
from rocksyd.kinds import kind_of
from rocksyd.master.records.behind import Behind
from rocksyd.model import Elsewhere, Run
from rocksyd.posix.log import log

RETRY = 0.5
"""Seconds between two tries to write a journal that could not be written (a full disk)."""
LOCKED_RETRY, LOCKED_LONG = 0.05, 2.0
"""Seconds between two tries while another program is writing to it, and after which that counts as trouble."""


class Writing:
    """Runs on their way to the disk: ``write`` makes them safe from the end of this process, ``sync`` from a power failure."""

    journal: Journal
    """Open from the take-over on."""
    known: Sequence[Run] = ()
    """Runs that were read before the take-over."""

    def __init__(self, gone: Callable[[list[Run]], None], counters: Counter[str] | None = None) -> None:
        self._tell_gone = gone
        """Called with the runs that were erased, when that is sure."""
        self._counters = Counter() if counters is None else counters
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
        self._rows: dict[tuple[str, str], Any] = {}
        """The same of other tables, by table and key."""
        self._rows_written: dict[tuple[str, str], Any] = {}
        self._locked_since = 0.0
        """Since when another program is writing to the journal; 0 while none is."""
        self._lasting = False
        """Whether any of that has to outlast a power failure."""

    def put(self, run: Run) -> None:
        """This run has changed."""
        self._changed[run.key] = run
        self._behind.discard(run.key)  # of a call without a key that somebody has ordered again by the key it was given

    def put_behind(self, run: Run, now: float, *, all_ends: bool) -> None:
        """The same of a call without a key; unless ``all_ends`` are kept it is not written at all where it soon ends well."""
        self._behind.put(run, now, all_ends=all_ends)

    def erase(self, run: Run) -> None:
        """Nobody wants to know of this run any more, but who has it forgotten is told of it once more."""
        try:
            if type(run.order.params) is Elsewhere:
                run.keep_params(run.params)
        except JournalError as error:
            log("master", f"the params of run {run.key} are lost: {error}")
            run.keep_params(None)
        self._erased[run.key] = run
        self._changed.pop(run.key, None)
        self._behind.discard(run.key)

    def put_row(self, table: str, key: str, row: Any) -> None:
        """This row of another table has changed; None: it is to go."""
        self._rows[table, key] = row

    def find(self, key: str) -> Run | None:
        """The run under this key as it was decided last."""
        if key in self._erased and key not in self._changed:
            return None
        return self._changed.get(key) or self.journal.get(key)

    def tick(self, key: str, script: str) -> tuple[bool, str, str]:
        """As ``Journal.tick``, with what has not been written yet."""
        known, latest, forgotten = self.journal.tick(key, script)
        return known or ("ticks", key) in self._rows, latest, forgotten

    @property
    def waiting(self) -> bool:
        """Whether anything is not yet where it has to be."""
        return bool(self._changed or self._erased or self._rows or self._written or self._rows_written or self._lasting)

    @property
    def all_written(self) -> bool:
        """Whether the journal holds all that was decided."""
        return not self.waiting and not self._behind

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds at which something is to be written; None when nothing waits for that."""
        return self.retry_at or self._behind.next_deadline()

    def write_behind(self, now: float, *, everything: bool = False) -> None:
        """Write what the answers did not wait for: when it is time to, or ``everything``, because somebody else goes on."""
        if (everything and self._behind) or self._behind.due(now):
            self._write_now(self._behind.take(now, everything=everything), now)

    def write_begun(self, now: float) -> None:
        """Write which runs run and how runs ended, because somebody is about to be told of that."""
        self._write_now(self._behind.take_begun(), now)

    def write_ended(self, now: float) -> None:
        """Write how runs ended, because somebody is about to look for those that have ended."""
        self._write_now(self._behind.take_ended(), now)

    def _write_now(self, runs: dict[str, Run], now: float) -> None:
        self._changed = {**runs, **self._changed}
        if self.write(now):
            self.sync(now)

    def write(self, now: float) -> bool:
        """Commit what has changed; false while that is impossible, and then nothing of it may be said or done yet."""
        if not self._changed and not self._erased and not self._rows:
            return True
        if self.retry_at and now < self.retry_at:
            return False
        try:
            self.journal.commit(self._changed.values(), self._erased, self._rows)
        except JournalError as error:
            self._in_trouble(error, now)
            return False
        self._locked_since = 0.0
        self._counters["journal_commits"] += 1
        self._counters["journal_rows"] += len(self._changed) + len(self._erased)
        self._lasting = (
            self._lasting
            or bool(self._erased)
            or any(TABLES[table].lasting for table, _ in self._rows)
            or any(_must_last(run) for run in self._changed.values())
        )
        self._written.update(self._changed)
        self._changed.clear()
        self._gone.update(self._erased)
        self._erased.clear()
        self._rows_written.update(self._rows)
        self._rows.clear()
        return True

    def sync(self, now: float) -> bool:
        """Wait for the disk, as far as the settings and what was written ask for it; false when it failed."""
        if not self._written and not self._rows_written and not self._lasting:
            return True
        try:
            if self._lasting:
                self.journal.sync()
        except JournalError as error:
            # After a failed fdatasync nobody knows what is on the disk: all of it is written anew (fsync(2)).
            self._changed = {**self._written, **self._changed}
            self._erased = {**self._gone, **self._erased}
            self._rows = {**self._rows_written, **self._rows}
            self._written.clear()
            self._gone.clear()
            self._in_trouble(error, now)
            return False
        for run in self._written.values():
            park(run, self.journal)
        self._written.clear()
        self._rows_written.clear()
        self._lasting = False
        if self._gone:
            self._tell_gone(list(self._gone.values()))
            self._gone.clear()
        if self.trouble:
            log("master", "the journal can be written again")
        self.trouble, self.retry_at = "", 0.0
        return True

    def _in_trouble(self, error: JournalError, now: float) -> None:
        if isinstance(error, JournalLocked):
            self.retry_at, self._locked_since = now + LOCKED_RETRY, self._locked_since or now
            if now < self._locked_since + LOCKED_LONG:
                return  # what was decided waits, and nobody is refused for a moment's sake
        else:
            self.retry_at = now + RETRY
        if not self.trouble:
            log("master", f"the journal cannot be written, new runs are refused until it can: {error}")
        self.trouble = str(error)


def _must_last(run: Run) -> bool:
    """Whether it has to outlast a power failure. A call without a key ends with its caller: nobody is left to ask."""
    return kind_of(run.order.kind).durable and not run.order.unnamed
