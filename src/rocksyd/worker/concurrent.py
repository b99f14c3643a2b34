"""A worker that many ``async def`` jobs share: each is a task on one asyncio loop, so those that only wait cost no process each.

What must live here: the loop, what comes and goes over the channel, and the life of one run.
What this file must not know: how many workers there are, why a run is cancelled, how a process is killed.

It is imported in such a worker only: asyncio takes others 100 ms. What belongs to the process stays as the pool has it and is
never changed for a run: folder, environment, signals, descriptors 0, 1 and 2 (``/dev/null``). What Python prints goes to the run
whose task prints it, which a context variable says; tasks and ``asyncio.to_thread`` that a job starts inherit it.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import resource
import threading
import time
from typing import Any, NoReturn

from rocksyd import kinds, messages
from rocksyd.errors import ChannelClosed, DescriptorsLost, JobError, MessageError
from rocksyd.jobs import Current, find_current_by
from rocksyd.posix.channel import Channel
from rocksyd.posix.titles import set_title
from rocksyd.worker import debug_log, hooks, leaving, output, results, stacks, tracing
from rocksyd.worker.context import Context
from rocksyd.worker.deadline import TERMINATED, reached
from rocksyd.worker.outcome import Early, Outcome, manner_of, observed
from rocksyd.worker.printing import Printed, share_streams
from rocksyd.worker.report import Report, progress
from rocksyd.worker.seat import Seat
from rocksyd.worker.target import Plan, plan_for

_DRAIN_GRACE = 10.0
_TIMEOUT = "timeout"


class _Cancelled(Exception):
    """The run ended because it was told to, by somebody and not by its time."""


class Shared:
    """One of the runs that are going on."""

    def __init__(self, job: messages.Job, current: Current, early: Early) -> None:
        self.job = job
        self.current = current
        self.early = early
        self.printed = Printed()
        self.task: asyncio.Task[None] | None = None
        self.cancelled: messages.Cancel | None = None
        self.hooked = False
        self.debug = False
        """Whether it has had the levels of what is logged lowered."""
        self.started = 0.0
        """CLOCK_MONOTONIC seconds at which its code was begun; 0 when it was not."""


_going_on: contextvars.ContextVar[Shared | None] = contextvars.ContextVar("rocksyd run", default=None)


def _current() -> Current | None:
    run = _going_on.get()
    return run.current if run is not None else None


def _printed() -> Printed | None:
    run = _going_on.get()
    return run.printed if run is not None else None


async def _called(plan: Plan, job: messages.Job, current: Current) -> Any:
    if job.each:
        return [await plan.call_async(params) for params in job.params]
    if job.after_results:
        return await plan.call_async([*await asyncio.to_thread(list, current.results()), *(job.params or ())])
    return await plan.call_async(job.params)


class SharedWorker:
    """One worker's life, from its fork to ``os._exit``, with up to ``capacity`` jobs at the same time."""

    def __init__(self, context: Context, number: int, channel: Channel, seat: Seat, capacity: int) -> None:
        self._context = context
        self._channel = channel
        self._seat = seat
        self._capacity = capacity
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self._runs: dict[str, Shared] = {}
        self._report = Report(number, self._send)
        self._levels = debug_log.Levels()
        self._draining = False
        self._ever = False
        """Whether it was given anything."""
        self._loop = asyncio.new_event_loop()

    def serve(self) -> NoReturn:
        """Run jobs until told or bound to leave. Never raises."""
        try:
            stacks.forget()  # one thread's stack says nothing of a task that waits, and would be printed nowhere
            output.detach()
            share_streams(_printed)
            find_current_by(_current)
            self._loop.add_reader(self._channel.fileno(), self._listen)
            self._seat.shares(self._capacity, 0)
            while not self._done:
                try:
                    self._loop.run_forever()
                except (SystemExit, KeyboardInterrupt):
                    continue  # of a task that a job has started: it is in that task, too, for whoever awaits it
            self._leave()
        except BaseException as error:  # noqa: BLE001  (nothing may unwind into the zygote's code below this frame)
            output.write("rocksyd: a worker failed, please report this:\n" + results.traceback_of(error))
        os._exit(70)

    @property
    def _done(self) -> bool:
        return self._draining and not self._runs and not self._report

    def _leave(self) -> NoReturn:
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        leaving.finish(_DRAIN_GRACE)
        os._exit(0 if self._ever else messages.NOTHING_RUN)

    def _look_whether_done(self) -> None:
        if self._done:
            self._loop.stop()

    # --- hearing ------------------------------------------------------------------------------------------------------
    def _listen(self) -> None:
        """Take what has come."""
        try:
            while (message := self._channel.receive()) is not None:
                self._heard(message)
        except MessageError as error:
            output.note(f"a worker ignores a message: {error}")
        except (ChannelClosed, DescriptorsLost):
            self._nobody_there()
        self._look_whether_done()

    def _heard(self, message: Any) -> None:
        match message:
            case messages.Job():
                self._begin(message)
            case messages.Cancel():
                self._cancel(message)
            case messages.JobAck():
                self._report.heard(message.key)
                self._show()
            case messages.Inventory():
                self._report.answer(message.epoch, {key: run.job.deadline for key, run in self._runs.items()})
            case messages.Drain():
                self._ever = self._draining = True

    def _nobody_there(self) -> None:
        """What runs may end; nobody will hear how."""
        self._loop.remove_reader(self._channel.fileno())
        self._loop.remove_writer(self._channel.fileno())
        self._draining = True
        self._report.all_heard()

    # --- telling ------------------------------------------------------------------------------------------------------
    def _send(self, message: Any) -> None:
        """Send, now or when the channel takes it; from a thread of a job's, too."""
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self._send, message)
            return
        try:
            self._channel.send(message)
            if self._channel.pending:
                self._loop.add_writer(self._channel.fileno(), self._flush)
        except ChannelClosed:
            self._nobody_there()

    def _flush(self) -> None:
        try:
            if self._channel.flush():
                self._loop.remove_writer(self._channel.fileno())
        except ChannelClosed:
            self._nobody_there()

    def _say_progress(self, key: str, *said: Any) -> None:
        if os.getpid() == self._pid:
            self._send(progress(key, *said))

    def _say_finished(self, run_key: str, said: results.Said) -> None:
        if os.getpid() != self._pid:
            raise JobError("finish() works only in the process that the run was given to")
        self._send(messages.Finished(run_key, said.value, said.dropped))

    # --- running ------------------------------------------------------------------------------------------------------
    def _begin(self, job: messages.Job) -> None:
        self._ever = True
        self._seat.leaves(job.leftover, job.grace)
        early = Early(manner_of(job))
        current = Current(
            job.key, job.attempt, job.deadline,
            lambda *said: self._say_progress(job.key, *said),
            lambda value: self._say_finished(job.key, early.take(value)),
            told=True,
            tick=job.tick,
            traceparent=job.traceparent,
            after=job.after,
        )  # fmt: skip
        current.request_id = job.request_id
        run = self._runs[job.key] = Shared(job, current, early)
        self._show()
        run.task = self._loop.create_task(self._serve(run), name=f"run {job.key}")

    def _cancel(self, order: messages.Cancel) -> None:
        run = self._runs.get(order.key)
        if run is None or run.task is None or run.cancelled is not None:
            return
        run.cancelled = order
        run.current.stop()
        if run.started:
            run.task.cancel()  # before that it sees it itself: a task that has not begun would end without a word

    def _show(self) -> None:
        self._seat.shares(self._capacity, len(self._runs), unheard=bool(self._report))
        count = len(self._runs)
        title = self._context.job_title(f"{count} run{'s' if count > 1 else ''}") if count else self._context.idle_title
        set_title(title)

    async def _serve(self, run: Shared) -> None:
        """One run, from its surroundings to its result."""
        _going_on.set(run)
        job = run.job
        outcome = await self._observed(run)
        if outcome.error is not None and outcome.error["type"] == "MemoryError" and self._context.memory:
            outcome = outcome._replace(reason="memory")
        if os.getpid() != self._pid:
            os._exit(outcome.retcode)  # a job that forks and lets both come back: only the worker itself speaks for the run
        if run.hooked:
            hooks.after_job()
        outcome = run.early.into(outcome)
        for note in outcome.notes:
            output.note(note)
        if run.debug:
            self._levels.done()
        run.printed.close()
        run.current.close()
        ended = time.monotonic()
        self._seat.done("")
        del self._runs[job.key]
        result = messages.Result(
            key=job.key,
            ok=outcome.ok,
            retcode=outcome.retcode,
            value=outcome.value,
            error=outcome.error,
            max_rss=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            started=run.started or ended,
            ended=ended,
            signal=outcome.signal,
            reason=outcome.reason,
            dropped=outcome.dropped,
            again=outcome.again,
            lineage=outcome.lineage,
        )
        self._report.keep(result)
        self._show()
        self._send(result)
        if tracing.wanted:
            await asyncio.to_thread(tracing.flush)
        self._look_whether_done()

    async def _observed(self, run: Shared) -> Outcome:
        """How it ended. Never raises; what it raised is printed to its own output."""
        value: Any = None
        failure: BaseException | None = None
        try:
            value = await self._run(run)
        except asyncio.CancelledError as error:
            failure = error
            if run.cancelled is not None:
                timed_out = run.cancelled.reason == _TIMEOUT
                failure = reached(run.cancelled.timeout) if timed_out else _Cancelled()
                failure = failure.with_traceback(error.__traceback__)
        except BaseException as error:  # noqa: BLE001  (KeyboardInterrupt and the like end the run, not the worker)
            failure = error
        if isinstance(failure, _Cancelled):
            return Outcome(retcode=128 + TERMINATED, signal=TERMINATED)

        def again() -> Any:
            if failure is not None:
                raise failure
            return value

        return observed(again, manner_of(run.job))

    async def _run(self, run: Shared) -> Any:
        """Everything from the job's surroundings to its code: what goes wrong on the way is the run's failure."""
        job = run.job
        try:
            run.printed.open(job.log, *job.fds)
        except OSError as error:
            raise JobError(f"the run's output {job.log} cannot be opened: {error.strerror}") from error
        if (kind := kinds.kind_of(job.kind)).own_process:
            raise JobError(f"{kind.called} cannot share a process with others: let it run in a pool with concurrency = 1")
        if job.debug:
            self._levels.want()
            run.debug = True
        plan = plan_for(job.target, self._context.plans)
        if run.cancelled is not None:
            raise asyncio.CancelledError
        run.started = time.monotonic()
        if hooks.present():
            run.hooked = True
            hooks.before_job()
        work = _called(plan, job, run.current)
        return await (tracing.within_async(job, work) if tracing.wanted else work)
