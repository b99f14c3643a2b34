"""What a job finds and may change in the process of a test, put aside for it and back again.

What must live here: ``current()``, environment, folder, the handler of SIGTERM, standard output.
What this file must not know: which runs there are.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rocksyd import jobs
from rocksyd.worker import output


@contextmanager
def isolated(current: jobs.Current, env: Mapping[str, str]) -> Iterator[None]:
    """Let ``current()`` be this one and add ``env`` to the environment; what the job changes is changed back."""
    outer, environment, folder = jobs._current, dict(os.environ), os.getcwd()
    handler = signal.getsignal(signal.SIGTERM)
    jobs.set_current(current)
    os.environ.update(env)
    try:
        yield
    finally:
        jobs.set_current(outer)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        os.chdir(folder)
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGTERM, handler)  # ``current().stopping`` has set its own


@contextmanager
def redirected(path: str, *, echo: bool) -> Iterator[None]:
    """Append to ``path`` what is printed meanwhile, by Python or to descriptors 1 and 2; ``echo``: then show it, too."""
    before = sys.stdout, sys.stderr
    output.flush()
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    start = os.fstat(fd).st_size
    kept = [os.dup(1), os.dup(2)]
    stream = open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=True)  # noqa: SIM115
    try:
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        sys.stdout = sys.stderr = stream
        yield
    finally:
        output.flush()
        sys.stdout, sys.stderr = before
        for number, saved in zip((1, 2), kept, strict=True):
            os.dup2(saved, number)
            os.close(saved)
        if not stream.closed:
            stream.close()
        if echo:
            _show(path, start)


def _show(path: str, start: int) -> None:
    with open(path, "rb") as file:
        file.seek(start)
        text = file.read().decode("utf-8", "replace")
    if text:
        sys.stdout.write(text)
