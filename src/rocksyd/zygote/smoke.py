"""The smoke check: one call in a forked child of the loaded application, which proves that a fork of it works.

What must live here: that fork and how its end is read. What this file must not know: messages.
"""

from __future__ import annotations

import os
from typing import NamedTuple, NoReturn

from rocksyd.exit_status import describe
from rocksyd.posix import signals
from rocksyd.posix.channel import read_memfd
from rocksyd.worker import leaving, reset
from rocksyd.worker.context import Context
from rocksyd.worker.outcome import Manner, observed
from rocksyd.worker.target import Plan, load

_GRACE = 5.0


class Failure(NamedTuple):
    """Why the check failed."""

    reason: str
    """The end of a sentence that begins with the check's name."""
    traceback: str


def failure_of(entry: str, context: Context) -> Failure | None:
    """Call ``module:callable`` in a child, which must return or exit with 0; None when it did.

    It may take as long as it likes: the master has a deadline for the whole of loading.
    """
    report = os.memfd_create("rocksyd-smoke", os.MFD_CLOEXEC)
    try:
        before = signals.block_all()
        try:
            pid = os.fork()
            if pid == 0:
                _check(entry, context, report)
        except OSError as error:
            return Failure(f"could not be run: fork: {error.strerror}", "")
        finally:
            signals.restore(before)
        _, status = os.waitpid(pid, 0)
        if status == 0:
            return None
        summary, _, traceback = read_memfd(report).decode(errors="replace").partition("\n")
        return Failure(f"failed: {summary}" if summary else f"failed: it {describe(status)}", traceback)
    finally:
        os.close(report)


def _check(entry: str, context: Context, report: int) -> NoReturn:
    try:
        reset.after_fork(context)
        reset.allow_interrupt()
        outcome = observed(lambda: Plan(entry, load(entry)).call(None), Manner(lenient=True))
        if outcome.error is not None:
            summary = f"{outcome.error['type']}: {outcome.error['message']}".replace("\n", " ")
            os.write(report, f"{summary}\n{outcome.error['traceback']}".encode()[: 1 << 20])
        leaving.finish(_GRACE)
        os._exit(outcome.retcode)
    except BaseException as error:  # noqa: BLE001  (an after_fork hook is anybody's code)
        os.write(report, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(70)
