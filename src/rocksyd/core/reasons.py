"""Why a run waits, goes on, or ended as it did, in sentences.

What must live here: every reason there is, by a name for programs and a text for people, the one that decides first.
What this file must not know: how any of it comes about (``engine``, ``queue``, ``pools``); it reads them and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rocksyd.core.pools import Pool
from rocksyd.model import CANCELLED, FAILED, KILLED, LOST, MEMORY, OK, RUNNING, SCRIPT, TIMEOUT, WAITING, Now, Run
from rocksyd.units import format_duration, format_size

if TYPE_CHECKING:
    from rocksyd.core.engine import Engine

CODES = (
    "delay", "retry", "stopping", "max_running", "loading", "fork_failed", "pool_full", "worker_starting", "queue", "next",
    "start_within", "draining", "running", "unanswered", "ending", "timeout", "progress", "old_code", "ok", "failed", "killed",
    "start_too_late", "memory", "pool_memory", "lost", "cancelled", "killed_after_grace", "attempts",
    "parked",
)  # fmt: skip
"""Every ``code`` a reason can have; programs rely on them, so they are only added to."""
_SIGKILL, _SIGTERM = 9, 15


class Reason(NamedTuple):
    """One reason: its name for programs, a sentence for people, and what could be done about it."""

    code: str
    text: str
    advice: str = ""


def why(engine: Engine, run: Run, now: Now) -> dict[str, Any]:
    """What the method ``why`` answers; the first reason is the one that decides."""
    if run.state == WAITING:
        reasons = _waits(engine, run, now)
    elif run.state == RUNNING:
        reasons = _runs(engine, run, now)
    else:
        reasons = _ended(run)
    return {
        "key": run.key,
        "target": run.name,
        "state": run.state,
        "outcome": run.outcome or None,
        "reasons": [reason._asdict() for reason in reasons],
        "ahead": len(_ahead(engine, run)) if run.state == WAITING else None,
    }


# --- it waits ---------------------------------------------------------------------------------------------------------
def _waits(engine: Engine, run: Run, now: Now) -> list[Reason]:
    reasons = []
    if engine.stopping:
        reasons.append(Reason("stopping", "the daemon stops: what waits is kept and runs after the next start"))
    if run.not_before > now.mono:
        reasons.append(_delayed(run, now))
    else:
        reasons += _in_line(engine, run, now)
    if run.start_by:
        left = _time(run.start_by - now.mono)
        reasons.append(Reason("start_within", f"it is given up in {left} if it has not started by then (start_within)"))
    if engine.draining and not engine.stopping:
        reasons.append(Reason("draining", "the daemon drains: it takes no new runs, but runs those that wait already"))
    return reasons


def _delayed(run: Run, now: Now) -> Reason:
    begins = f"begins in {_time(run.not_before - now.mono)}"
    if run.attempt == 1:
        return Reason("delay", f"it was ordered with a delay and {begins}")
    after = f", after {_error(run)}" if run.error else ""
    return Reason("retry", f"attempt {run.attempt} of {run.retries + 1} {begins}{after}")


def _in_line(engine: Engine, run: Run, now: Now) -> list[Reason]:
    """Every obstacle between this run and a worker."""
    pool, queue, app = engine.pools.get(run.pool), engine.queues.get(run.pool), engine.applications.get(run.app)
    if pool is None or queue is None or app is None:
        return [Reason("loading", f"application {run.app!r} is not loaded")]
    reasons = []
    running = queue.running.get(run.target, 0)
    if run.concurrency_key and (same := queue.running_keys[run.target, run.concurrency_key]) >= run.max_running_per_key:
        text = f"{same} of {run.target} with the concurrency key {run.concurrency_key!r} run already (max_running_per_key)"
        reasons.append(Reason("max_running", text, "wait for one of them, or raise max_running_per_key"))
    if run.max_running and running >= run.max_running:
        text = f"{running} of {run.target} run already, and no more than {run.max_running} may (max_running)"
        reasons.append(Reason("max_running", text, "wait for one of them, or raise max_running"))
    if not app.ready:
        text = f"application {run.app!r} is being loaded: there is nothing to fork a worker from yet"
        reasons.append(Reason("loading", text, "rocksyd stats, and the daemon's log, say how that goes"))
    elif not pool.idle and (not reasons or pool.busy >= pool.policy.max_workers):
        reasons.append(_no_worker(pool, now))
    ahead = _ahead(engine, run)
    if ahead:
        higher = sum(1 for other in ahead if other.priority > run.priority)
        detail = f", {higher} of them with a higher priority" if higher else ""
        reasons.append(Reason("queue", f"{_count(len(ahead), 'run')} wait{'s' * (len(ahead) == 1)} before it{detail}"))
    elif not any(reason.code == "max_running" for reason in reasons):
        reasons.append(Reason("next", f"it is the next in pool {pool.name!r}"))
    return reasons


def _no_worker(pool: Pool, now: Now) -> Reason:
    if pool.live >= pool.policy.max_workers and pool.busy == pool.live:
        busy = f"all {pool.busy} workers" if pool.busy > 1 else "the only worker"
        if pool.policy.concurrency > 1:
            settings = f"max_workers = {pool.policy.max_workers}, concurrency = {pool.policy.concurrency}"
            text = f"{busy} of pool {pool.name!r} {'have' if pool.busy > 1 else 'has'} as many runs as may share one ({settings})"
            return Reason("pool_full", text, "wait for one of them, or raise max_workers or concurrency")
        return Reason("pool_full", f"{busy} of pool {pool.name!r} {'are' if pool.busy > 1 else 'is'} busy (max_workers = "
                      f"{pool.policy.max_workers})", "wait for one of them, or raise max_workers")  # fmt: skip
    trouble = pool.trouble
    if trouble.parked:
        text = f"pool {pool.name!r} is parked: {trouble.reason} ({_count(trouble.failures, 'failure')} in a row)"
        return Reason("parked", text, "mend it, then rocksyd reload, or restart: both try again")
    if now.mono < trouble.after:
        text = (
            f"no worker can be started in pool {pool.name!r}: {trouble.reason} ({_count(trouble.failures, 'failure')} in a row)"
        )
        return Reason("fork_failed", f"{text}; next try in {_time(trouble.after - now.mono)}", "the daemon's log says why")
    if pool.memory.full:
        size = format_size(pool.memory.total(len(pool.workers)))
        have = f"{_count(len(pool.workers), 'worker')} of pool {pool.name!r} with {size}"
        return Reason("pool_memory", f"there is no room for another beside the {have} (max_total_rss)",
                      "wait for one of them, or raise max_total_rss")  # fmt: skip
    return Reason("worker_starting", f"no worker of pool {pool.name!r} is free; {_coming(pool)}")


def _coming(pool: Pool) -> str:
    return f"{_count(pool.starting, 'worker')} {'are' if pool.starting > 1 else 'is'} being started" if pool.starting else (
        f"{_count(pool.unsure, 'worker')} must first say what {'they do' if pool.unsure > 1 else 'it does'}" if pool.unsure
        else "one is about to be started"
    )  # fmt: skip


def _ahead(engine: Engine, run: Run) -> list[Run]:
    """Those that are before it in the line of its pool."""
    queue = engine.queues.get(run.pool)
    if queue is None or run.key not in queue:
        return []
    place = (-run.priority, run.sequence)
    return [other for other in queue if (-other.priority, other.sequence) < place]


# --- it runs ----------------------------------------------------------------------------------------------------------
def _runs(engine: Engine, run: Run, now: Now) -> list[Reason]:
    reasons = []
    worker = engine.workers.get(run.worker)
    since = f" for {_time(now.mono - run.started)}" if run.started else ""
    who = f"process {run.pid}" if run.pid else "a worker"
    if run.kill_reason:
        reasons.append(_ending(run, now))
    if worker is None or not worker.sure:
        text = "the daemon's master was replaced after a crash, and the worker has not said yet how it is getting on"
        reasons.append(Reason("unanswered", text))
    reasons.append(Reason("running", f"it has been running{since} in {who}{_attempt(run)}"))
    if run.progress:
        reasons.append(Reason("progress", f"it says: {_progress(run.progress)}"))
    if run.deadline and not run.kill_reason:
        left = max(run.deadline - now.mono, 0.0)
        reasons.append(Reason("timeout", f"it is ended in {_time(left)} at the latest (timeout = {_time(run.timeout)})"))
    app = engine.applications.get(run.app)
    if app is not None and app.generation > run.generation:
        text = f"its code is of generation {run.generation}; new runs get generation {app.generation}"
        reasons.append(Reason("old_code", text))
    return reasons


def _ending(run: Run, now: Now) -> Reason:
    what = {
        TIMEOUT: f"it reached its timeout of {_time(run.timeout)}",
        CANCELLED: "it was cancelled",
        MEMORY: "it used too much memory",
    }
    begun = what.get(run.kill_reason, f"it is to end ({run.kill_reason})")
    if not run.kill_at:
        outlived = "" if run.kill_reason == MEMORY else f", outlived its grace of {_time(run.grace)}"
        return Reason("ending", f"{begun}{outlived} and was sent KILL")
    told = "told so" if run.kill_reason == TIMEOUT and run.kind != SCRIPT else "sent TERM"
    return Reason("ending", f"{begun} and was {told}; KILL follows in {_time(run.kill_at - now.mono)}")


def _progress(progress: dict[str, Any]) -> str:
    done, total, note = progress.get("done"), progress.get("total"), progress.get("note")
    number = " ".join([f"{done:.10g}"] * (done is not None) + [f"of {total:.10g}"] * (total is not None))
    return ", ".join(part for part in (number, str(note or "")) if part) or "nothing"


# --- it has ended -----------------------------------------------------------------------------------------------------
def _ended(run: Run) -> list[Reason]:
    reasons = [_ending_of(run)]
    if run.outcome in (TIMEOUT, CANCELLED) and run.signal == _SIGKILL:
        text = f"it did not end within its grace of {_time(run.grace)} after TERM, so KILL followed"
        reasons.append(Reason("killed_after_grace", text, "end when current().stopping is true, or raise grace"))
    if run.outcome != OK and (run.attempt > 1 or run.retries):
        left = "" if run.attempt > run.retries or run.outcome == CANCELLED else ": the daemon was stopping"
        reasons.append(Reason("attempts", f"it was attempt {run.attempt} of {max(run.attempt, run.retries + 1)}{left}"))
    return reasons


def _ending_of(run: Run) -> Reason:
    took = f" after {_time(run.ended_at - run.started_at)}" if run.started_at and run.ended_at else ""
    if run.outcome == OK:
        return Reason(OK, f"it ended well{took}")
    if run.outcome == FAILED:
        return Reason(FAILED, f"it failed{took}: {_error(run)}", _look(run))
    if run.outcome == KILLED:
        return Reason(KILLED, f"it was ended by signal {run.signal}{took}, which the daemon had not sent", _killer(run))
    if run.outcome == TIMEOUT and not run.started_at:
        return Reason("start_too_late", "no worker was free for it in time (start_within, or the pool's queue_timeout)",
                      "raise max_workers, or start_within")  # fmt: skip
    if run.outcome == TIMEOUT:
        return Reason(TIMEOUT, f"it was ended{took}, at its timeout of {_time(run.timeout)}", _look(run))
    if run.outcome == CANCELLED:
        return Reason(CANCELLED, "it was cancelled before it had started" if not run.started_at else
                      f"it was cancelled{took}: somebody ended it, or the daemon was stopped")  # fmt: skip
    if run.outcome == MEMORY:
        return Reason(MEMORY, f"it was ended{took} because it used too much memory ({format_size(run.max_rss)})",
                      "raise max_rss_hard, or let it use less")  # fmt: skip
    return Reason(LOST, f"nobody knows how it ended: {_error(run)}", "look at what it was to do before you run it again")


def _error(run: Run) -> str:
    """The exception, or the exit status, in one line."""
    error = run.error or {}
    kind, message = str(error.get("type") or ""), str(error.get("message") or "").partition("\n")[0]
    text = ": ".join(part for part in (kind, message) if part)
    return text or f"exit status {run.retcode}"


def _look(run: Run) -> str:
    if run.kind == SCRIPT:
        return ""
    return f"rocksyd logs {run.key} shows its output"


def _killer(run: Run) -> str:
    if run.signal == _SIGKILL:
        return "somebody's kill -9, or the kernel for want of memory: its log (dmesg) would say so"
    return "somebody's kill" if run.signal == _SIGTERM else "a crash of the process itself, if nobody sent it"


def _attempt(run: Run) -> str:
    return f", attempt {run.attempt} of {max(run.attempt, run.retries + 1)}" if run.attempt > 1 else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _time(seconds: float) -> str:
    """To the hundredth: nobody reads the milliseconds of a time that is over when it is read."""
    seconds = max(seconds, 0.0)
    return format_duration(round(seconds, 2 if seconds < 10 else 1 if seconds < 60 else 0))
