"""A command line as a job: any program, with a run's output, limits and record.

What must live here: starting the program, and its exit status as the run's. What this file must not know: schedules.
"""

from __future__ import annotations

import os
import signal
import sys

from rocksyd.errors import JobError


def run(command: list[str]) -> None:
    """Run ``command`` and leave with its status: 128 and the number for one that a signal has ended.

    TERM and KILL of the run reach the program itself, which is in the worker's group; the worker waits for its end.

    Raises:
        JobError: there is no such program, or it cannot be started.
    """
    signal.signal(signal.SIGTERM, lambda *_: None)  # and not ignored: the program would inherit that
    try:
        pid = os.posix_spawnp(command[0], command, os.environ, setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGPIPE])
    except OSError as error:
        raise JobError(f"{command[0]!r} cannot be started: {error.strerror} (PATH={os.environ.get('PATH', '')})") from None
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        sys.exit(code if code > 0 else 128 - code)
