"""The control groups of generations: made by their zygotes, removed here when those are gone.

What must live here: which groups are nobody's any more. What this file must not know: the files of a group
(``posix.cgroups``), the group of a single worker, which its zygote removes.

A generation that is gone can leave groups that somebody is in: workers that have outlived their zygote, processes that a job
has left behind in a session of their own. They are removed when these have ended, by this master or a later one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from rocksyd.posix import cgroups


class GenerationGroups:
    """The groups below ``root``, APP@GENERATION each; with "" there are none, and everything here does nothing."""

    def __init__(self) -> None:
        self.root = ""
        """The control group that is the daemon's to divide."""
        self._removals = cgroups.Removals()
        self.next_try = self._removals.next_try
        self.on_time = self._removals.on_time

    def gone(self, app: str, generation: int) -> None:
        """No zygote forks into this group any more."""
        if self.root:
            self._removals.in_passing()
            self._removals.remove(f"{self.root}/{app}@{generation}", time.monotonic())

    def orphan_gone(self) -> None:
        """A worker that had outlived its zygote has ended: its group may have been the last one below a generation's."""
        self._removals.in_passing()

    def tidy(self, living: Collection[tuple[str, int]], generation: int) -> None:
        """Remove what earlier masters have left, up to ``generation``; ``living``: application and generation of each zygote."""
        try:
            names = os.listdir(self.root) if self.root else []
        except OSError:
            return
        for name in names:
            app, _, number = name.rpartition("@")
            if app and number.isdecimal() and int(number) <= generation and (app, int(number)) not in living:
                self.gone(app, int(number))
