"""A job in a process that it has for itself: its surroundings, its code, its result.

What must live here: everything from JOB to RESULT, and what is put right again before the next job.
What this file must not know: how messages are sent, and who hears how the run ended.
"""

from __future__ import annotations

import os
import resource
import time
from typing import Any

from rocksyd import messages
from rocksyd.errors import ChannelClosed, JobError
from rocksyd.jobs import Current, set_current
from rocksyd.posix import signals
from rocksyd.posix.channel import Channel, pair
from rocksyd.posix.titles import set_title
from rocksyd.worker import debug_log, files, hooks, leaving, output, reset, results, settings, threads, tracing
from rocksyd.worker.context import Context
from rocksyd.worker.conversation import Conversation
from rocksyd.worker.deadline import Deadline
from rocksyd.worker.outcome import Early, Outcome, manner_of, observed
from rocksyd.worker.report import progress
from rocksyd.worker.seat import Seat, cpu_used
from rocksyd.worker.target import Plan, plan_for

_REHEARSAL = messages.Job(
    key="rehearsal", target="module:name", params=["2026-01-31", {"a": 1.5}], log="/dev/null", cwd="/", env={"A": "b"}, title="a"
)
_AT_WORK = (
    "threads that this job has started are still at work, and so its worker takes no other run: {}"
    " (join them before the job returns, or start them with daemon=True if nobody has to wait for them)"
)


class Serving:
    """Runs jobs, one after another."""

    def __init__(self, context: Context, seat: Seat, master: Conversation) -> None:
        self._context = context
        self._seat = seat
        self._master = master
        self._pid = os.getpid()
        self._streams = output.Streams()
        self._spool = output.Spool()
        self._started = 0.0
        """When the code of the run going on was begun; 0 when it was not."""
        self._hooked = False
        """Whether hooks surround the run going on."""
        self._deadline = Deadline(0.0)
        self._baseline: settings.Baseline | None = None
        """What a job may change and the next one must not find changed; of a worker that has more than one."""
        self._threads: threads.Watch | None = None
        """Those that the worker had before its first job; of one that has more than one job, too."""
        self._levels = debug_log.Levels()
        self._lowered = False
        """Whether the run going on has had them lowered."""
        self._spoilt: list[str] = []
        """What a job has left or changed that cannot be put back: there will be no other job here."""

    def rehearse(self) -> None:
        """Go the way of a job once, with a channel to itself and nothing to run.

        A forked child copies each page of its parent's memory at the first write to it, and reading a Python object writes
        its reference count. Some 0.4 ms of this are spent here, while nobody waits, instead of between JOB and the job.
        """
        ours, theirs = (Channel(end) for end in pair())
        try:
            theirs.send(_REHEARSAL)
            job = ours.receive()
            set_current(Current(job.key, job.attempt, job.deadline, ours.send))
            outcome = observed(lambda: job.params, manner_of(job))
            self._end_stray_child(outcome)
            set_title(self._context.idle_title)
            reset.allow_interrupt()
            files.flush()
            Conversation(ours, 0).say(messages.Result(key=job.key, value=outcome.value, cpu=cpu_used(), ended=time.monotonic()))
        finally:
            set_current(None)
            signals.reset()
            ours.close()
            theirs.close()

    def serve(self, job: messages.Job) -> None:
        """Run it, and return when its result has been heard; does not return when the worker is to leave after it."""
        self._seat.at("reading", job.key, job.deadline)
        self._seat.leaves(job.leftover, job.grace)
        if self._baseline is None and not job.last:
            self._baseline, self._threads = settings.Baseline(), threads.Watch()
        before = cpu_used()
        manner = manner_of(job)
        early = Early(manner)
        current = Current(
            job.key, job.attempt, job.deadline,
            lambda *said: self._master.mention(progress(job.key, *said)),
            lambda value: self._say_finished(job.key, early.take(value)), tick=job.tick, traceparent=job.traceparent,
            after=job.after,
        )  # fmt: skip
        current.request_id = job.request_id
        set_current(current)
        self._started = 0.0
        self._hooked = False
        self._deadline = Deadline(job.deadline, job.timeout)
        outcome = observed(lambda: self._run(job, current), manner)
        if outcome.error is not None and outcome.error["type"] == "MemoryError" and self._context.memory:
            outcome = outcome._replace(reason="memory")
        self._end_stray_child(outcome)
        if self._hooked:
            hooks.after_job()
            self._end_stray_child(outcome)
        self._seat.done(job.key)
        outcome = early.into(outcome)
        leaves = self._leaves_threads(job)
        for note in outcome.notes:
            output.note(note)
        silent = False
        if job.last:
            leaving.finish(self._deadline.left(job.grace))
            self._end_stray_child(outcome)
        else:
            files.flush_remembered()
            if job.spool:
                silent = not self._spool.keep(job.log)
            else:
                output.flush()
        ended = time.monotonic()
        current.close()
        set_current(None)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        result = messages.Result(
            key=job.key,
            ok=outcome.ok,
            retcode=outcome.retcode,
            value=outcome.value,
            error=outcome.error,
            cpu=max(0.0, cpu_used() - before),
            max_rss=usage.ru_maxrss * 1024,
            started=self._started or ended,
            ended=ended,
            signal=outcome.signal,
            reason=outcome.reason,
            silent=silent,
            next_acks=not job.last,
            dropped=outcome.dropped,
            again=outcome.again,
            lineage=outcome.lineage,
            leaves=leaves,
        )
        self._master.say(result)
        if tracing.wanted:
            tracing.flush()
        if not job.last:
            self._tidy(job, leaves)  # while others hear of the result
        self._master.await_ack(result)
        if job.last:
            os._exit(0)
        if self._spoilt:
            self._master.stop()

    def _run(self, job: messages.Job, current: Current) -> Any:
        """Everything from the job's surroundings to its code: what goes wrong on the way is the run's failure."""
        try:
            if job.spool:
                self._spool.attach(job.spool)
            else:
                output.attach(job.log, *job.fds)
        except OSError as error:
            raise JobError(f"the run's output {job.spool or job.log} cannot be opened: {error.strerror}") from error
        if job.debug:
            self._levels.want()
            self._lowered = True
        if job.env:
            reset.add_to_environment(job.env)
        if job.cwd:
            try:
                os.chdir(job.cwd)
            except OSError as error:
                raise JobError(f"the run's folder {job.cwd} cannot be entered: {error.strerror}") from error
        set_title(self._context.job_title(job.title or job.target))
        plan = plan_for(job.target, self._context.plans)
        reset.allow_interrupt()
        self._seat.at("running", job.key)
        self._started = time.monotonic()
        with self._deadline:
            if hooks.present():
                self._hooked = True
                hooks.before_job()
            if tracing.wanted:
                return tracing.within(job, lambda: _called(plan, job, current))
            return _called(plan, job, current)

    def _end_stray_child(self, outcome: Outcome) -> None:
        """A job that forks and lets both come back: the child ends here, only the worker itself speaks for the run."""
        if os.getpid() != self._pid:
            output.flush()
            os._exit(outcome.retcode)

    def _leaves_threads(self, job: messages.Job) -> bool:
        """Whether threads of it are at work, beside which nothing else may be run; its output says so."""
        if job.last or self._threads is None:
            return False  # at the end of the process they are waited for
        if at_work := self._threads.at_work():
            output.note(_AT_WORK.format(", ".join(map(repr, at_work))))
        return bool(at_work)

    def _tidy(self, job: messages.Job, leaves: bool) -> None:
        if leaves:
            self._spoilt = ["threads"]  # and what is around them stays as it is, their output above all
            return
        if job.spool:
            self._spool.rest()
        else:
            output.detach()
        if self._lowered:
            self._levels.done()
            self._lowered = False
        self._streams.restore()
        assert self._baseline is not None
        self._spoilt = reset.between_jobs(self._context, self._baseline)

    def _say_finished(self, key: str, said: results.Said) -> None:
        """The caller gets its result now."""
        if not self._master.open:
            raise JobError("finish() works only in the process that the run was given to, while it can speak to the daemon")
        try:
            self._master.send(messages.Finished(key, said.value, said.dropped))
        except ChannelClosed as error:
            raise JobError("nobody can be answered: the daemon is gone") from error
        self._seat.at("finishing", key)


def _called(plan: Plan, job: messages.Job, current: Current) -> Any:
    if job.each:
        return [plan.call(params) for params in job.params]
    return plan.call([*current.results(), *(job.params or ())] if job.after_results else job.params)
