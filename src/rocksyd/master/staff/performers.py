"""What the engine has decided about zygotes and workers, carried out.

What must live here: which order each effect is to whom. What this file must not know: why it was decided; how it gets there.
"""

from __future__ import annotations

import os
from typing import Protocol

from rocksyd import messages as m
from rocksyd.core import events as ev
from rocksyd.master.records.failed import FailedRuns
from rocksyd.master.records.output import Outputs
from rocksyd.master.staff.children import Children
from rocksyd.master.turn import Turn
from rocksyd.model import Run
from rocksyd.options import REQUEST_ID
from rocksyd.posix.files import open_file
from rocksyd.posix.log import WARNING, log
from rocksyd.posix.processes import proportional_memory, resident_memory


class Lender(Protocol):
    """Whoever holds descriptors that a run's worker is to get."""

    def descriptors(self, key: str) -> tuple[int, ...]:
        """Those for this run; none for most runs."""

    def given(self, key: str) -> None:
        """The worker has them."""


class Performers:
    """The performers of the staff's effects."""

    def __init__(self, turn: Turn, children: Children, outputs: Outputs, lender: Lender) -> None:
        self._turn = turn
        self._children = children
        self._outputs = outputs
        self._lender = lender
        turn.performs(ev.StartJob, self._start)
        turn.performs(ev.ForkWorker, children.fork)
        turn.performs(ev.AckResult, lambda effect: children.workers.acknowledge(effect.worker, effect.key, turn.now.mono))
        turn.performs(ev.AskWorker, lambda effect: children.workers.tell(effect.worker, m.Inventory(effect.epoch)))
        turn.performs(ev.KillWorker, children.kill)
        turn.performs(ev.CancelRun, self._cancel)
        turn.performs(ev.DrainWorker, lambda effect: children.workers.tell(effect.worker, m.Drain()))
        turn.performs(ev.RetireZygote, lambda effect: children.zygotes.retire(*effect))
        turn.performs(ev.MeasurePool, children.measure)
        turn.performs(ev.PromoteWorker, lambda effect: children.promote(effect, turn.engine.config.restart.prepare_timeout))
        turn.performs(ev.RetireTemplate, lambda effect: children.zygotes.retire(*effect))
        turn.performs(ev.MeasureWorkers, self._measure)
        failed = FailedRuns()
        turn.performs(ev.Ended, lambda effect: failed.ended(effect.run, turn.now))
        turn.performs(ev.Note, lambda effect: log("master", effect.text, level=WARNING, event="pool"))

    def _start(self, effect: ev.StartJob) -> None:
        run = effect.run
        self._outputs.begin(run)
        held = self._lender.descriptors(run.key)
        opened = () if held else self._output_of(run)
        order, attempt = run.order, run.attempt
        job = m.Job(
            run.key, order.target, run.params, attempt.number, attempt.deadline, order.log, "", order.env, effect.last,
            f"{order.name} #{run.key}", order.grace, each=order.each, kind=order.kind, leftover=order.leftover,
            results=order.results, fds=held or opened, timeout=order.timeout, spool=attempt.spool, tick=order.tick,
            lineage=bool(order.retry.get("on")),
            after=order.after, after_results=order.after_results, traceparent=order.traceparent,
            request_id=order.labels.get(REQUEST_ID, ""), debug=attempt.debug,
        )  # fmt: skip
        self._children.workers.tell(effect.worker, job)
        self._lender.given(run.key)
        for fd in opened:
            os.close(fd)

    def _output_of(self, run: Run) -> tuple[int, ...]:
        """The descriptor of its output, for a worker that runs as another user and may not open a file in ``state_dir``."""
        engine = self._turn.engine
        app, pool = engine.config.apps.get(run.order.app), engine.pools.get(run.pool)
        if app is None or pool is None or not run.order.log or not app.as_another(pool.policy):
            return ()
        try:
            os.makedirs(os.path.dirname(run.order.log), mode=0o700, exist_ok=True)
            return (open_file(run.order.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT),)
        except OSError:
            return ()  # the worker will say why it cannot open it

    def _cancel(self, effect: ev.CancelRun) -> None:
        run = effect.run
        self._children.workers.tell(effect.worker, m.Cancel(run.key, run.attempt.kill_reason, run.order.timeout))

    def _measure(self, effect: ev.MeasureWorkers) -> None:
        pids = dict(effect.workers)
        sizes = {number: ev.Size(size) for number, pid in pids.items() if (size := resident_memory(pid))}
        if effect.share in sizes:
            sizes[effect.share] = ev.Size(sizes[effect.share].rss, proportional_memory(pids[effect.share]))
        self._turn.step(ev.WorkersMeasured(effect.pool, sizes))
