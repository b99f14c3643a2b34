"""The barrier: what one client, worker, zygote, caller of exec or run sets off ends that one, and never the master.

What must live here: what is done with an exception that nobody expected, and the count of them.
What this file must not know: what was being done. Whoever is to blame says itself how it is ended (``broken``).

What passes: the end of the keeper's channel, which is the end of the service, and whatever is raised while one is being ended or
where none is to blame. That ends the master, and the keeper's ladder acts. See docs/design/barrier.md.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from typing import ClassVar

from rocksyd.errors import ChannelClosed
from rocksyd.posix.log import log

RECENT = 3600.0
"""Seconds for which a fault counts among the daemon's problems: what has not come again since is history, and in the log."""


class KeeperGone(ChannelClosed):
    """The keeper is gone: the service is over, whoever's turn it was."""


class Stranger:
    """One whose turn it can be in the loop; its ``str`` is its name in the log. Handlers that are none are the master's own."""

    __slots__ = ()
    kind: ClassVar[str]
    """What it is: a key of the counts in ``health``."""

    def broken(self, reason: str) -> None:
        """End it: its turn has raised what nobody expected."""
        raise NotImplementedError


class Barrier:
    """What got as far as this, counted by the kind of whoever set it off."""

    def __init__(self) -> None:
        self.faults: Counter[str] = Counter()
        self._last: dict[str, float] = {}
        """Kind -> CLOCK_MONOTONIC seconds of the last one."""

    def stop(self, stranger: Stranger, error: Exception) -> None:
        """End whoever's turn raised this."""
        reason = self.note(stranger.kind, str(stranger), error)
        stranger.broken(reason)

    def recent(self, now: float) -> list[str]:
        """The kinds of which one was met in the last ``RECENT`` seconds before ``now`` (CLOCK_MONOTONIC seconds)."""
        return sorted(kind for kind, at in self._last.items() if now - at < RECENT)

    def note(self, kind: str, name: str, error: Exception) -> str:
        """Log and count; returns the reason in a line. Raises the error again if it is not to be stopped."""
        if isinstance(error, KeeperGone):
            raise error
        self.faults[kind] += 1
        self._last[kind] = time.monotonic()
        reason = f"a fault of rocksyd ({type(error).__name__}) met while {name} was served; the log has its traceback"
        try:
            details = "".join(traceback.format_exception(error)).rstrip()
        except Exception:  # noqa: BLE001  (no memory, perhaps: the service goes on without the details)
            details = type(error).__name__
        log("master", f"{name} met a fault of rocksyd, please report it; nothing else is disturbed: {details}")
        return reason
