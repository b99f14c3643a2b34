"""What is known of a worker's end besides what its parent says: from the scoreboard, the turn's own effects, and /proc.

What must live here: completing what zygotes and workers say before the engine decides on it; looking for exits that nobody told.
What this file must not know: what the engine makes of it; channels.
"""

from __future__ import annotations

import os
from typing import Any

from rocksyd.core import events as ev
from rocksyd.core.worker import LEAVING
from rocksyd.kinds import kind_of
from rocksyd.master.records.output import Outputs
from rocksyd.master.staff.children import Children
from rocksyd.master.turn import Turn
from rocksyd.messages import Holding, Result
from rocksyd.model import RUNNING
from rocksyd.posix.log import WARNING, log

SUSPECT_TIMEOUT = 5.0
"""Seconds in which whoever can report an exit will have done so."""
CUT = 100
"""Characters from which on a key may be cut on the scoreboard, and is the caller's: those made up for calls are short."""


class Evidence:
    """Between the children, who tell, and the engine, which decides."""

    def __init__(self, turn: Turn, children: Children, outputs: Outputs) -> None:
        self._turn = turn
        self._children = children
        self._outputs = outputs
        self._look_at = 0.0
        turn.engine.never_began = lambda number: self._never_began(number)[0]
        turn.due(lambda: self._look_at or None, self._look)

    def step(self, event: Any) -> None:
        """Let the engine decide on what a zygote or worker has told."""
        try:
            self._turn.step(self._with_evidence(event))
        except Exception as error:
            worker = getattr(event, "worker", 0)
            if not worker:
                raise
            # Not whoever told it: a zygote tells of many.
            reason = self._turn.barrier.note("worker", f"worker {worker} ({type(event).__name__})", error)
            self._turn.step(ev.WorkerSpokeNonsense(worker, reason))
            if type(event) is ev.WorkerExited and worker in self._turn.engine.workers:
                self._turn.step(event)  # nobody will tell it again: without evidence, it is counted out all the same

    def _with_evidence(self, event: Any) -> Any:
        engine = self._turn.engine
        if isinstance(event, ev.WorkerExited):
            self._outputs.worker_gone(event.worker)
            self._say_of_its_death(event)
            for run in engine.runs_of(event.worker):
                self._measure_output(run.key)
            unread, unborn = self._never_began(event.worker)
            event = event._replace(unread=unread, unborn=unborn, untold=self._untold(event.worker))
        elif isinstance(event, ev.Heard):
            self._look_up(event.message)
        elif isinstance(event, ev.ZygoteGone):
            if self._children.orphans():
                self.suspect()
        elif isinstance(event, ev.WorkerFound):
            event = self._seated(event)
        return event

    def _say_of_its_death(self, event: ev.WorkerExited) -> None:
        """A worker that had nothing to do and died of a signal: of one that had a run that run says it, if it failed."""
        worker = self._turn.engine.workers.get(event.worker)
        if worker is None or worker.runs or event.status is None or not os.WIFSIGNALED(event.status) or worker.state == LEAVING:
            return
        number = os.WTERMSIG(event.status)
        log(
            "master", f"worker {worker.number} of pool {worker.pool} (pid {worker.pid}) died of signal {number}, without a run",
            level=WARNING, event="worker.died", pool=worker.pool, worker=worker.number, generation=worker.generation,
            signal=number,
        )  # fmt: skip

    def _look_up(self, message: Any) -> None:
        """What the engine has to know besides what a worker says."""
        if isinstance(message, Result):
            if not message.silent:
                self._measure_output(message.key)
        elif isinstance(message, Holding):
            for key in message.keys:
                self._turn.lookup(key)  # whether the journal knows it

    def _measure_output(self, key: str) -> None:
        run = self._turn.engine.runs.get(key)
        if run is not None and run.output in self._outputs.by_path:
            self._outputs.check(run, run.order.log)

    def _seated(self, found: ev.WorkerFound) -> ev.WorkerFound:
        """With what the scoreboard has of a worker that a dead master knew; its slot, too, where nobody else knows it."""
        board = self._children.board
        entry = board.read(found.slot) if found.slot >= 0 else board.find(found.worker)
        if entry is None or entry.worker != found.worker:
            return found
        found = found._replace(slot=entry.slot, jobs=entry.jobs, born=entry.born, capacity=entry.capacity)
        if entry.stage not in ("reading", "running", "finishing") or not 0 < len(entry.key) < CUT:
            return found
        self._turn.lookup(entry.key)  # the engine has to know whether the journal does
        return found._replace(key=entry.key, since=entry.since, deadline=entry.deadline)

    def _untold(self, number: int) -> tuple[str, ...]:
        """Runs that a worker was to be given at the end of this turn."""
        return tuple(effect.run.key for effect in self._turn.pending(ev.StartJob) if effect.worker == number)

    def _never_began(self, number: int) -> tuple[bool, bool]:
        """Whether a worker that has ended had not begun the job it was given, and whether it had not even come to look for one.

        It says so on the scoreboard.
        Of a worker that runs share it says only whether it had begun any; then all count as begun.
        """
        engine, board = self._turn.engine, self._children.board
        run = engine.held_by(number)
        if run is None:
            return False, False
        worker = engine.workers.get(number)
        slot = worker.slot if worker is not None and worker.slot >= 0 else run.attempt.slot
        entry = board.read(slot) if slot >= 0 else board.find(number)
        if not kind_of(run.order.kind).retryable:
            return False, False  # what it was ordered with has gone with the worker, so it cannot be run by another one
        if entry is None:
            silent = slot >= 0 and board.untouched(slot)
            return silent, silent
        if entry.worker != number:  # it died before it could say anything; this is of the worker that had the slot before
            return slot >= 0, slot >= 0
        unread = entry.stage not in ("running", "finishing") or not run.key.startswith(entry.key)
        return unread, entry.stage == "starting"

    def worker_of(self, pid: int) -> int | None:
        """The worker that has this PID, also when its channel was lost in a crash."""
        link = self._children.workers.by_pid.get(pid)
        if link is not None:
            return link.number
        runs = self._turn.engine.runs.values()
        return next((run.attempt.worker for run in runs if run.state == RUNNING and run.attempt.pid == pid), None)

    # --- exits that nobody tells --------------------------------------------------------------------------------------
    def suspect(self) -> None:
        """A master or a zygote has died, perhaps with an exit that it was about to tell: look soon whose process is gone."""
        self._look_at = self._turn.now.mono + SUSPECT_TIMEOUT

    def _look(self, now: float) -> None:
        self._look_at = 0.0
        engine, children = self._turn.engine, self._children
        for run in [run for run in engine.runs.values() if run.state == RUNNING and run.attempt.worker not in children.workers]:
            if not os.path.exists(f"/proc/{run.attempt.pid}"):
                self.step(ev.WorkerExited(run.attempt.worker, None))
        for worker in [worker for worker in engine.workers.values() if not worker.sure and not worker.run]:
            if not os.path.exists(f"/proc/{worker.pid}"):
                self.step(ev.WorkerExited(worker.number, None))
        for link in children.orphans():
            if not os.path.exists(f"/proc/{link.pid}"):
                children.workers.exited(None, link.pid, ev.WorkerExited(link.number, None))
