"""Where the threads of a run are: asked for by callers, and of runs that are slow.

What must live here: telling what the worker printed from what its job prints, and knowing when that was all.
What this file must not know: how a worker prints it (``worker.stacks``), who asks over what.

A worker prints to the run's output, where there is no last word: it was all when it has stopped growing, as far as it is stacks.
Only while somebody waits for that is the file looked at.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable

from rocksyd.core import events as ev
from rocksyd.kinds import kind_of
from rocksyd.master.records.output import Outputs
from rocksyd.master.records.slowlog import SlowLog
from rocksyd.master.staff.children import Children
from rocksyd.master.turn import Turn
from rocksyd.model import RUNNING, Now, Run
from rocksyd.posix.files import open_file
from rocksyd.posix.log import line
from rocksyd.posix.processes import main_thread
from rocksyd.units import format_duration

LOOK = 0.03
"""Seconds between two looks."""
STUCK = 1.0
"""Seconds without a word after which it is looked whether its interpreter comes to it at all."""
BUSY = 0.3
"""CPU seconds within which an interpreter that executes Python would have said it."""
PATIENCE = 3.0
"""Seconds after which there is no point in waiting for more."""
MOST = 8 << 20
"""Bytes that are read at one look. (A job that prints faster than that is not listened to for ever: see PATIENCE.)"""
_ENOUGH = 4 << 20
"""Bytes behind the first stack after which no more is read; faulthandler prints at most 100 threads of 100 frames."""
_BLOCK = re.compile(r"(?:(?:Current thread|Thread) 0x[0-9a-f]+ [^\n]*|Stack )\(most recent call first\):\n(?:  [^\n]*\n)*")
"""Not only at the start of a line: a job may be in the middle of printing one."""
_LAST = ("Current thread 0x", "Stack (most recent call first)")
"""What the last of the stacks begins with, as the interpreter and as C code print it."""
_STARTS = (b"Current thread 0x", b"Thread 0x", b"Stack (most recent call first)")

Told = Callable[[str, str], None]
"""Called with the stacks, or with "" and why there are none."""


class _Asked:
    """One run that was asked, and has not said all of it yet."""

    def __init__(self, run: Run, offset: int, now: float) -> None:
        self.run = run
        self.path = run.output
        """Where its output was when it was asked; what is read is where it is now."""
        self._offset = offset
        self._printed = b""
        self.told: list[Told] = []
        self.text = ""
        self.look_at = now + LOOK
        self.stuck_at = now + STUCK
        self.until = now + PATIENCE
        self._used = main_thread(run.attempt.pid)[1]

    def look(self, now: float) -> bool:
        """Read on; whether that was all."""
        before, self.look_at = self.text, now + LOOK
        data = _read(self.run.output, self._offset)
        self._offset += len(data)
        printed = self._printed + data
        found = [at for at in map(printed.find, _STARTS) if at >= 0]  # a job may print faster than an expression searches
        self._printed = printed[min(found) :] if found else printed[-64:]
        self.text = stacks_in(self._printed.decode("utf-8", "replace"))
        complete = self.text == before and any(last in self.text for last in _LAST)
        return complete or len(self._printed) > _ENOUGH or now >= self.until or self.run.state != RUNNING

    def stuck(self, now: float) -> bool:
        """Whether it has said nothing although it could have, so that C code keeps its interpreter from it. True once.

        A process that has not had the processor is not stuck: in the middle of Python's own code its stack may not be read
        by C code.
        """
        if self.text or now < self.stuck_at:
            return False
        state, used = main_thread(self.run.attempt.pid)
        if state not in ("S", "D") and used - self._used < BUSY:
            return False
        self.stuck_at, self.until = math.inf, now + PATIENCE
        return True


class Stacks:
    """Questions that are open."""

    def __init__(self, turn: Turn, children: Children, outputs: Outputs, log: SlowLog) -> None:
        self._children = children
        self._outputs = outputs
        self._log = log
        self._barrier = turn.barrier
        self._asked: dict[str, _Asked] = {}
        turn.due(self.next_deadline, self.on_time)
        turn.performs(ev.Slow, lambda effect: self.slow(effect.run, turn.now))

    # --- who asks -----------------------------------------------------------------------------------------------------
    def ask(self, run: Run, told: Told, title: str = "asked for by a client") -> None:
        """Ask; ``told`` is called at once if the run cannot answer, or when it has."""
        asked = self._asked.get(run.key)
        if asked is None or asked.run is not run:
            trouble = self._begin(run, title)
            if trouble:
                told("", trouble)
                return
        self._asked[run.key].told.append(told)

    def slow(self, run: Run, now: Now) -> None:
        """The run takes long: its stacks go to the slow log as well."""
        took = format_duration(round(max(0.0, now.mono - run.attempt.started), 1))
        what = f"run {run.key} ({run.order.target}) of pool {run.pool}, process {run.attempt.pid}, has been running for {took}"
        limit = f"slow_after = {format_duration(run.order.slow_after)}"

        def told(text: str, trouble: str) -> None:
            self._log.write(line("slow", f"{what} ({limit})\n{(text or trouble).rstrip()}"))

        self.ask(run, told, f"it has been running for {took}, {limit}")

    def note(self, what: str, text: str) -> None:
        """An entry about what is no run, and said itself where it is."""
        self._log.write(line("slow", f"{what}\n{text.rstrip()}"))

    def _begin(self, run: Run, title: str) -> str:
        """Why it cannot answer; "" when it is about to."""
        if run.state != RUNNING:
            return f"run {run.key!r} does not run"
        if not (kind := kind_of(run.order.kind)).has_output:
            return f"run {run.key!r} is {kind.called} that prints to its caller, so its stacks cannot be read"
        if run.attempt.worker not in self._children.workers:
            return f"the last master died a moment ago, and which process run {run.key!r} is in is not known yet: ask again"
        if not self._children.workers.prints_stacks(run.attempt.worker):
            why = "it has become another program, blocks signals, shares its process (concurrency), or is just ending"
            return f"run {run.key!r} cannot say: {why}"
        offset = _mark(run.output, f"rocksyd: the stacks of all threads ({title}):\n")
        if offset is None:
            return f"the output of run {run.key!r} cannot be written"
        self._children.print_stacks(run.attempt.worker)
        self._asked[run.key] = _Asked(run, offset, time.monotonic())
        self._outputs.uncut.add(run.output)
        return ""

    # --- what it says -------------------------------------------------------------------------------------------------
    def next_deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds of the next look."""
        return min((asked.look_at for asked in self._asked.values()), default=None)

    def on_time(self, now: float) -> None:
        """Look at those whose time it is."""
        for asked in [asked for asked in self._asked.values() if asked.look_at <= now]:
            try:
                if asked.look(now):
                    self._answer(asked)
                elif asked.stuck(now) and self._children.workers.prints_stacks(asked.run.attempt.worker, in_c=True):
                    self._children.print_stacks(asked.run.attempt.worker, in_c=True)
            except Exception as error:  # noqa: BLE001  (the barrier: it is asked no longer, and whoever asked is told so)
                asked.text = ""
                self._barrier.note("run", f"run {asked.run.key}, asked for its stacks,", error)
                self._answer(asked)

    def give_up(self) -> None:
        """Another master is about to serve: answer with what there is."""
        for asked in list(self._asked.values()):
            asked.look(time.monotonic())
            self._answer(asked)

    def _answer(self, asked: _Asked) -> None:
        if self._asked.pop(asked.run.key, None) is None:
            return
        self._outputs.uncut.discard(asked.path)
        self._outputs.check(asked.run, asked.run.output)
        what = "it has put something else in the place of its standard error, is stopped, or has ended meanwhile"
        trouble = "" if asked.text else f"run {asked.run.key!r} has not said where it is: {what}"
        for told in asked.told:
            try:
                told(asked.text, trouble)
            except Exception as error:  # noqa: BLE001  (the barrier: the others that asked are told all the same)
                self._barrier.note("client", f"somebody who asked for the stacks of run {asked.run.key}", error)


def stacks_in(text: str) -> str:
    """The stacks among whatever else was printed: ``Thread 0x...`` and what is indented below it, with a blank line between."""
    return "\n".join(found[0] for found in _BLOCK.finditer(text))


def _read(path: str, offset: int) -> bytes:
    try:
        with open(open_file(path, os.O_RDONLY), "rb", buffering=0) as file:
            file.seek(offset)
            return file.read(MOST)
    except OSError:
        return b""


def _mark(path: str, text: str) -> int | None:
    """Append a line to a run's output; where what follows begins, None when it cannot be written."""
    try:
        fd = open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    except OSError:
        return None
    try:
        os.write(fd, text.encode("utf-8", "backslashreplace"))
        return os.fstat(fd).st_size
    except OSError:
        return None
    finally:
        os.close(fd)
