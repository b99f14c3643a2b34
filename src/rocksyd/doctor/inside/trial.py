"""One run in a real worker of the application under examination, looked at from outside: what it has copied, and whose that was.

What must live here: that worker, and which of its pages are its own. What this file must not know: reports, other measurements.

A page that a fork still shares with its parent is mapped by both; one that it has written to is mapped by it alone, which the
kernel tells of each page (bit 56 of /proc/<pid>/pagemap). The objects of a package were on known pages before the fork, so it is
known whose pages were copied; of a page that several share, the first has it. The worker itself is not touched by looking.

Sources: proc(5) (``smaps_rollup``), the kernel's Documentation/admin-guide/mm/pagemap.rst.
"""

from __future__ import annotations

import os
import signal
from array import array
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

from rocksyd import messages
from rocksyd.doctor.inside.sharing import private_memory
from rocksyd.errors import ChannelClosed
from rocksyd.posix import signals
from rocksyd.posix.channel import Channel, pair
from rocksyd.units import format_duration
from rocksyd.worker import output, reset, results
from rocksyd.worker.context import Context
from rocksyd.worker.main import Worker
from rocksyd.worker.seat import Seat

_PAGE = os.sysconf("SC_PAGE_SIZE")
_OWN, _PRESENT = 1 << 56, 1 << 63
_GAP = 64
"""Pages between two that are wanted which are rather read along."""
PATIENCE = 60.0
"""Seconds that the run may take."""


class Pages:
    """Whose objects are on which page."""

    def __init__(self) -> None:
        self._packages: list[str] = []
        self._owners: dict[int, int] = {}

    def add(self, package: str, objects: Iterable[Any]) -> None:
        """The pages of these objects belong to ``package``, but for those that have an owner."""
        number = len(self._packages)
        self._packages.append(package)
        for one in objects:
            self._owners.setdefault(id(one) // _PAGE, number)

    def copied(self, pid: int) -> dict[str, int]:
        """Bytes of each package's pages that process ``pid`` does not share with its parent any more."""
        found = dict.fromkeys(self._packages, 0)
        with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
            for run in _runs(sorted(self._owners)):
                entries = array("Q", os.pread(file.fileno(), 8 * (run[-1] - run[0] + 1), 8 * run[0]))
                for page in run:
                    if page - run[0] < len(entries) and entries[page - run[0]] & _OWN and entries[page - run[0]] & _PRESENT:
                        found[self._packages[self._owners[page]]] += _PAGE
        return found


def _runs(pages: list[int]) -> Iterable[list[int]]:
    """The pages in groups that are read at once."""
    run: list[int] = []
    for page in pages:
        if run and page - run[-1] > _GAP:
            yield run
            run = []
        run.append(page)
    if run:
        yield run


class Trial(NamedTuple):
    """What one run did."""

    seconds: float
    private: int
    """Bytes by which the worker's private memory grew."""
    copied: dict[str, int]
    """Bytes of each package's memory that were shared before and are not any more."""
    error: str


def run(context: Context, target: str, params: Any, pages: Pages) -> Trial:
    """Let a worker run ``target``, and look at it before and after. Its output is dropped."""
    masters, workers = pair()
    channel = Channel(masters)
    output.flush()
    before = signals.block_all()
    try:
        pid = os.fork()
        if pid == 0:
            channel.close()
            _work(context, Channel(workers))
    finally:
        signals.restore(before)
    workers.close()
    try:
        return _observe(channel, pid, target, params, pages)
    except ChannelClosed:
        return Trial(0.0, 0, {}, "its worker died")
    finally:
        channel.close()
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _work(context: Context, channel: Channel) -> NoReturn:
    """Be a worker, as ``Server`` makes one."""
    try:
        seat = Seat(None, messages.Fork(worker=1, pool=context.pool), 0)
        reset.after_fork(context)
        Worker(context, 1, channel, seat).serve()
    except BaseException as error:  # noqa: BLE001  (hooks are anybody's code)
        output.write(results.traceback_of(error))
    finally:
        os._exit(70)


def _observe(channel: Channel, pid: int, target: str, params: Any, pages: Pages) -> Trial:
    channel.send(messages.Inventory())
    if not isinstance(channel.wait(PATIENCE), messages.Idle):
        return Trial(0.0, 0, {}, "its worker did not become idle")
    private, copied = private_memory(pid), pages.copied(pid)
    channel.send(messages.Job(key="doctor", target=target, params=params, last=False))
    while not isinstance(result := channel.wait(PATIENCE), messages.Result):
        if result is None:
            return Trial(PATIENCE, 0, {}, f"it did not end within {format_duration(PATIENCE)}")
    after = pages.copied(pid)
    return Trial(
        seconds=result.ended - result.started,
        private=max(0, private_memory(pid) - private),
        copied={package: size - copied[package] for package, size in after.items()},
        error=f"{result.error['type']}: {result.error['message']}" if result.error else "",
    )
