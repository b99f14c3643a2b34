"""How long ended runs are remembered: by what they ran, and how they ended.

What must live here: which rule holds for a run. What this file must not know: the journal, clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rocksyd.config import Config
from rocksyd.core.targets import Application
from rocksyd.model import OK


class Kept(NamedTuple):
    """Seconds for which runs are remembered that ended well, and others."""

    ok: float
    failed: float


class Retention(NamedTuple):
    """The rules: for all, and by the names that callers write for a target."""

    usual: Kept
    of: dict[str, Kept] = {}

    @property
    def plain(self) -> bool:
        """Whether there is one rule for all runs, which their age alone decides."""
        return not self.of and self.usual.ok == self.usual.failed

    def kept(self, target: str) -> Kept:
        """Which rule holds for a target."""
        return self.of.get(target, self.usual)

    def over(self, target: str, outcome: str, age: float) -> bool:
        """Whether a run that ended ``age`` seconds ago is to be forgotten."""
        kept = self.kept(target)
        return age > (kept.ok if outcome == OK else kept.failed)


def retention(config: Config, applications: Mapping[str, Application]) -> Retention:
    """The rules of a configuration, by every name that callers write for a target."""
    journal = config.journal
    usual = Kept(journal.keep, journal.keep if journal.keep_failed is None else journal.keep_failed)
    of: dict[str, Kept] = {}
    for target, said in journal.targets.items():
        ok = usual.ok if said.keep is None else said.keep
        failed = said.keep_failed if said.keep_failed is not None else usual.failed if said.keep is None else said.keep
        of |= dict.fromkeys((target, *_called(applications, target)), Kept(ok, failed))
    return Retention(usual, of)


def _called(applications: Mapping[str, Application], name: str) -> list[str]:
    """What else callers write for a target, whose full or short name this is."""
    jobs = [job for app in applications.values() for job in app.jobs.items()]
    full = {job["target"] for short, job in jobs if name in (short, job["target"])}
    return [*full, *(short for short, job in jobs if job["target"] in full)]
