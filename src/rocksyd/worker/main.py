"""A worker: a fork of the loaded application that waits for a job, runs it, and says how it ended until it was heard.

What must live here: the order of things. What this file must not know: how any of them is done.

The channel's descriptor is the only one of the daemon's in this process. A job that closes everything it finds
(``os.closerange``) closes it too; no duplicate is kept elsewhere, because none would survive that either. The worker sees the
loss by the socket's inode, before it writes into whatever has the number now, and leaves with the run's own exit status,
so that the status still tells.
"""

from __future__ import annotations

import os
import resource
import select
import time
from collections import deque
from typing import Any, NoReturn

from rocksyd import messages
from rocksyd.errors import ChannelClosed, DescriptorsLost, JobError, MessageError
from rocksyd.jobs import Current, set_current
from rocksyd.posix import signals
from rocksyd.posix.channel import Channel, pair
from rocksyd.posix.titles import set_title
from rocksyd.worker import hooks, leaving, output, reset, script, values
from rocksyd.worker.context import Context
from rocksyd.worker.deadline import Deadline
from rocksyd.worker.outcome import Early, Outcome, observed
from rocksyd.worker.seat import Seat
from rocksyd.worker.target import plan_for

_DRAIN_GRACE = 10.0
_REHEARSAL = messages.Job(
    key="rehearsal", target="module:name", params=["2026-01-31", {"a": 1.5}], log="/dev/null", cwd="/", env={"A": "b"}, title="a"
)


class Worker:
    """One worker's life, from its fork to ``os._exit``."""

    def __init__(self, context: Context, number: int, channel: Channel, seat: Seat) -> None:
        self._context = context
        self._number = number
        self._channel = channel
        self._seat = seat
        self._identity = _identity(channel.fileno())
        self._pid = os.getpid()
        self._streams = output.Streams()
        self._spool = output.Spool()
        self._waiting: deque[messages.Job | messages.Promote] = deque()
        """What came in place of an acknowledgement: it is sent when the journal holds the result before it."""
        self._draining = False
        self._status = 0
        self._started = 0.0
        """When the code of the run going on was begun; 0 when it was not."""
        self._hooked = False
        """Whether hooks surround the run going on."""
        self._deadline = Deadline(0.0)

    def serve(self) -> messages.Promote:
        """Run jobs until told or bound to leave. Returns only when this process is to be a worker no longer, and never raises."""
        try:
            if not self._channel.readable:
                self._rehearse()
            self._seat.at("idle")
            while True:
                job = self._waiting.popleft() if self._waiting else self._next_job()
                if job is None:
                    leaving.finish(_DRAIN_GRACE)
                    os._exit(self._status)
                if isinstance(job, messages.Promote):
                    self._channel.close()
                    return job
                if job.kind == script.KIND:
                    self._serve_script(job)
                self._serve(job)
        except BaseException as error:  # noqa: BLE001  (nothing may unwind into the zygote's code below this frame)
            output.write("rocksyd: a worker failed, please report this:\n" + values.traceback_of(error))
            os._exit(70)

    def _rehearse(self) -> None:
        """Go the way of a job once, with a channel to itself and nothing to run.

        A forked child copies each page of its parent's memory at the first write to it, and reading a Python object writes
        its reference count. Some 0.4 ms of this are spent here, while nobody waits, instead of between JOB and the job.
        """
        ours, theirs = (Channel(end) for end in pair())
        try:
            theirs.send(_REHEARSAL)
            job = ours.receive()
            set_current(Current(job.key, job.attempt, job.deadline, ours.send))
            outcome = observed(lambda: job.params, job.result_limit)
            self._end_stray_child(outcome)
            set_title(self._context.idle_title)
            reset.allow_interrupt()
            ours.send(messages.Result(key=job.key, value=outcome.value, cpu=_cpu(), ended=time.monotonic()))
        finally:
            set_current(None)
            signals.reset()
            ours.close()
            theirs.close()

    # --- waiting ------------------------------------------------------------------------------------------------------
    def _next_job(self) -> messages.Job | messages.Promote | None:
        """Block until there is a job, or the order to be a template; None when it is time to leave."""
        while not self._draining:
            message = self._receive()
            if isinstance(message, messages.Job | messages.Promote):
                return message
            if message is None:
                self._status = messages.NOTHING_RUN
            if message is None or isinstance(message, messages.Drain):
                return None
            if isinstance(message, messages.Inventory):
                try:
                    self._channel.send(messages.Idle(self._number, self._pid, message.epoch))
                except ChannelClosed:
                    continue  # and nothing more is received
        return None

    def _receive(self) -> Any:
        """The next message, whatever it is; None when nobody is at the other end."""
        while True:
            try:
                return self._channel.wait()
            except MessageError as error:
                output.note(f"a worker ignores a message: {error}")
            except (ChannelClosed, DescriptorsLost, OSError):
                return None

    # --- running ------------------------------------------------------------------------------------------------------
    def _serve_script(self, job: messages.Job) -> NoReturn:
        """A script for a caller: it has been told how it ended before the master is, and nothing is left to clean up for."""
        before = _cpu()
        set_title(self._context.job_title(job.title))
        self._started = time.monotonic()
        ending = script.run(job.fds, self._context.cwd, lambda: self._seat.at("running", job.key))
        self._seat.done(job.key)
        retcode = 128 + ending.signal if ending.signal else ending.status
        max_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        cpu, ended = max(0.0, _cpu() - before), time.monotonic()
        result = messages.Result(
            key=job.key, ok=retcode == 0, retcode=retcode, cpu=cpu, max_rss=max_rss, started=self._started, ended=ended
        )
        self._say(result)
        self._await_ack(result)
        os._exit(0)

    def _serve(self, job: messages.Job) -> None:
        self._seat.at("reading", job.key)
        before = _cpu()
        early = Early(job.result_limit)
        current = Current(
            job.key, job.attempt, job.deadline,
            lambda *said: self._say_progress(job.key, *said),
            lambda value: self._say_finished(job.key, early.take(value)),
        )  # fmt: skip
        set_current(current)
        self._started = 0.0
        self._hooked = False
        self._deadline = Deadline(job.deadline, job.timeout)
        outcome = observed(lambda: self._run(job), job.result_limit)
        if outcome.error is not None and outcome.error["type"] == "MemoryError" and self._context.memory:
            outcome = outcome._replace(reason="memory")
        self._end_stray_child(outcome)
        if self._hooked:
            hooks.after_job()
            self._end_stray_child(outcome)
        self._seat.done(job.key)
        outcome = early.into(outcome)
        for note in outcome.notes:
            output.note(note)
        silent = False
        if job.last:
            leaving.finish(self._deadline.left(job.grace))
            self._end_stray_child(outcome)
        elif job.spool:
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
            cpu=max(0.0, _cpu() - before),
            max_rss=usage.ru_maxrss * 1024,
            started=self._started or ended,
            ended=ended,
            signal=outcome.signal,
            reason=outcome.reason,
            silent=silent,
            next_acks=not job.last,
            dropped=outcome.dropped,
        )
        self._say(result)
        if not job.last:
            self._tidy(job)  # while others hear of the result
        self._await_ack(result)
        if job.last:
            os._exit(0)
        self._seat.at("idle")

    def _run(self, job: messages.Job) -> Any:
        """Everything from the job's surroundings to its code: what goes wrong on the way is the run's failure."""
        try:
            if job.spool:
                self._spool.attach(job.spool)
            else:
                output.attach(job.log, *job.fds)
        except OSError as error:
            raise JobError(f"the run's output {job.spool or job.log} cannot be opened: {error.strerror}") from error
        if job.env:
            os.environ.update(job.env)
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
            return [plan.call(params) for params in job.params] if job.each else plan.call(job.params)

    def _end_stray_child(self, outcome: Outcome) -> None:
        """A job that forks and lets both come back: the child ends here, only the worker itself speaks for the run."""
        if os.getpid() != self._pid:
            output.flush()
            os._exit(outcome.retcode)

    def _tidy(self, job: messages.Job) -> None:
        if job.spool:
            self._spool.rest()
        else:
            output.detach()
        self._streams.restore()
        reset.between_jobs(self._context)

    def _say_progress(self, key: str, done: Any, total: Any, note: str) -> None:
        """Send it if that is possible at once; progress is not worth waiting for, and only the worker itself speaks."""
        if os.getpid() != self._pid or not self._has_channel() or (self._channel.pending and not self._channel.flush()):
            return
        try:
            self._channel.send(messages.Progress(key, values.number(done), values.number(total), values.text(str(note))[:1000]))
        except ChannelClosed:
            return

    def _say_finished(self, key: str, said: values.Said) -> None:
        """The caller gets its result now."""
        if os.getpid() != self._pid or not self._has_channel():
            raise JobError("finish() works only in the process that the run was given to, while it can speak to the daemon")
        try:
            self._send(messages.Finished(key, said.value, said.dropped))
        except ChannelClosed as error:
            raise JobError("nobody can be answered: the daemon is gone") from error
        self._seat.at("finishing", key)

    # --- telling ------------------------------------------------------------------------------------------------------
    def _say(self, result: messages.Result) -> None:
        """Say RESULT. Who cannot be heard leaves with the run's exit status, which somebody will see."""
        if not self._has_channel():
            os._exit(result.retcode)
        try:
            self._send(result)
        except ChannelClosed:
            os._exit(result.retcode)

    def _await_ack(self, result: messages.Result) -> None:
        """Wait until RESULT was heard, and say it again to whoever asks."""
        try:
            while True:
                message = self._receive()
                if message is None:
                    os._exit(result.retcode)
                if isinstance(message, messages.JobAck) and message.key == result.key:
                    return
                if isinstance(message, messages.Inventory):
                    self._send(result)
                elif isinstance(message, messages.Drain):
                    self._draining = True
                elif isinstance(message, messages.Job | messages.Promote):
                    self._waiting.append(message)
                    return
        except ChannelClosed:
            os._exit(result.retcode)

    def _send(self, message: Any) -> None:
        self._channel.send(message)
        while not self._channel.flush():
            poll = select.poll()
            poll.register(self._channel, select.POLLOUT)
            poll.poll()

    def _has_channel(self) -> bool:
        return _identity(self._channel.fileno()) == self._identity


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _cpu() -> float:
    """Seconds of user and system time of this process and the children it has waited for."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
