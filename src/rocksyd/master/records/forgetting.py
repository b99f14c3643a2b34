"""Ended runs that are older than the settings keep them, and their outputs.

What must live here: when to look for them. What this file must not know: how the journal finds them; who reads runs.
"""

from __future__ import annotations

from rocksyd.config import Config
from rocksyd.core.engine import Engine
from rocksyd.core.retention import Retention, retention
from rocksyd.errors import JournalError
from rocksyd.journal import ageing
from rocksyd.master.records.output import Outputs
from rocksyd.master.records.writing import Writing
from rocksyd.model import Run
from rocksyd.posix.log import log

FORGET_INTERVAL = 600.0
"""Seconds between two looks; there is a look only while any ended run is kept."""
LOOKED_AT, AT_ONCE = 200, 50
"""Rows that are looked at in a turn; runs that are forgotten in one: each costs what all its indexes cost."""
COUNTED_AT_ONCE = 100_000
"""Runs that are counted in a turn."""
_SOON = 0.025
"""Seconds until the next part of much that is to be forgotten."""


class Forgetting:
    """Forgets what the settings no longer keep, also what the engine still has of it in memory."""

    def __init__(self, writing: Writing, outputs: Outputs, engine: Engine) -> None:
        self._writing = writing
        self._outputs = outputs
        self._engine = engine
        self._at = 0.0
        self._target: str | None = ""
        """Where rules differ by target: the one that is looked through; "" before the first, None behind the last."""
        self._behind = ageing.START
        self._counted, self._counted_to = 0, 0.0
        """How many of the latest runs have been counted, and when the last of those ended; 0 before the first."""

    def begin(self, now: float) -> None:
        """The journal is open: look at what it has some time from now (CLOCK_MONOTONIC seconds)."""
        if self._writing.journal.has_ended():
            self.ended(now)

    def ended(self, now: float) -> None:
        """A run has ended, which is to be forgotten at some time."""
        if not self._at:
            self._at = now + FORGET_INTERVAL

    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds of the next look; None while there is nothing to forget."""
        return self._at or None

    def look(self, mono: float, wall: float, config: Config) -> None:
        """Forget a part of what is too old at ``wall`` (Unix seconds)."""
        self._at = 0.0
        journal = self._writing.journal
        try:
            rules = retention(config, self._engine.applications)
            forgotten, more = self._by_target(rules, wall) if not rules.plain else (self._older(wall - rules.usual.ok), False)
            if not forgotten and not more:
                forgotten, more = self._beyond(config.journal.keep_runs, wall)
            self._outputs.remove(forgotten)
            for run in forgotten:
                self._engine.ended.pop(run.key, None)
            expired = self._outputs.expire(f"{config.state_dir}/output", wall - config.output.keep)
            if forgotten or expired or more or journal.has_ended():
                self._at = mono + (_SOON if forgotten or expired or more else FORGET_INTERVAL)
        except (JournalError, OSError) as error:
            log("master", f"old runs cannot be forgotten: {error}")
            self._at = mono + FORGET_INTERVAL

    def _older(self, before: float) -> list[Run]:
        return self._writing.journal.forget(before, 0, AT_ONCE)

    def _beyond(self, most: int, wall: float) -> tuple[list[Run], bool]:
        """Those that ended before the ``most`` latest. To count them is to go through them: a part each time."""
        if most <= COUNTED_AT_ONCE:
            return self._writing.journal.forget(0.0, most, AT_ONCE), False
        if self._counted < most:
            number = min(COUNTED_AT_ONCE, most - self._counted)
            found = ageing.step_back(self._writing.journal, self._counted_to or wall + 1e9, number)
            if found is None:
                self._counted, self._counted_to = 0, 0.0
                return [], False
            self._counted, self._counted_to = self._counted + number, found
            return [], True
        forgotten = self._older(self._counted_to)
        if not forgotten:
            self._counted, self._counted_to = 0, 0.0
        return forgotten, bool(forgotten)

    def _by_target(self, rules: Retention, wall: float) -> tuple[list[Run], bool]:
        """Go on with one target for a bounded number of rows; what was forgotten, and whether there is more to look at now."""
        journal = self._writing.journal
        if self._target is None:
            self._target, self._behind = "", ageing.START
        if not self._target or self._behind == ageing.START:
            self._target = ageing.next_target(journal, self._target)
            if self._target is None:
                return [], False
        kept = rules.kept(self._target)
        aged = ageing.aged(journal, self._target, self._behind, wall - min(kept), LOOKED_AT)
        over = [one.key for one in aged if rules.over(self._target, one.outcome, wall - one.ended_at)]
        self._behind = (aged[-1].ended_at, aged[-1].row) if len(aged) == LOOKED_AT else ageing.START
        return ageing.forget(journal, over), True
