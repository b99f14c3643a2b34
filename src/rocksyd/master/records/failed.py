"""Failed runs in the log: key, target and cause of each, as long as they are few.

What must live here: what is said of one, and how many are said.
What this file must not know: why runs fail.
"""

from __future__ import annotations

from rocksyd.model import CANCELLED, OK, Now, Run
from rocksyd.posix.log import WARNING, log

AT_ONCE, A_SECOND = 20, 1.0
"""Entries that may come at once, and afterwards in each second."""
_CAUSE = 300
"""Characters of the cause."""


class FailedRuns:
    """Logs them. Of more than may be said it says how many there were, with the next that it says."""

    def __init__(self) -> None:
        self._left = float(AT_ONCE)
        self._at = 0.0
        self._unsaid = 0

    def ended(self, run: Run, now: Now) -> None:
        """A run has ended in whatever way."""
        last, order = run.attempt, run.order
        if last.outcome in (OK, CANCELLED):
            return
        self._left = min(self._left + (now.mono - self._at) * A_SECOND, float(AT_ONCE))
        self._at = now.mono
        if self._left < 1:
            self._unsaid += 1
            return
        self._left -= 1
        unsaid, self._unsaid = self._unsaid, 0
        more = f" ({unsaid} more have failed since the last one here: rocksyd errors)" if unsaid else ""
        attempt = f", attempt {last.number}" if last.number > 1 else ""
        log(
            "master", f"run {run.key} ({order.name}) {last.outcome}{attempt}: {_cause(run)}{more}", level=WARNING,
            event="run.failed", key=run.key, app=order.app, target=order.name, outcome=last.outcome, generation=last.generation,
            revision=last.revision or None,
            unsaid=unsaid or None,
        )  # fmt: skip


def _cause(run: Run) -> str:
    error = run.attempt.error or {}
    text = ": ".join(str(error[name]).partition("\n")[0] for name in ("type", "message") if error.get(name))
    if not text:
        text = f"signal {run.attempt.signal}" if run.attempt.signal else f"exit status {run.attempt.retcode}"
    return text[:_CAUSE]
