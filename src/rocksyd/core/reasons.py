"""Why a run waits, goes on, or ended as it did, in sentences.

What must live here: every reason there is, by a name for programs and a text for people, the one that decides first.
What this file must not know: how any of it comes about (``engine``, ``queue``, ``pools``); it reads them and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from rocksyd.core import flags
from rocksyd.core.circle import RUN, WORKER, Awaited, Need, circle, full
from rocksyd.core.outcome import PREDECESSOR
from rocksyd.core.pools import Pool
from rocksyd.core.queue import ahead_in, rates_of
from rocksyd.core.room import as_known
from rocksyd.kinds import kind_of
from rocksyd.model import CANCELLED, FAILED, INTERRUPTED, KILLED, LOST, MEMORY, OK, RUNNING, TIMEOUT, WAITING, Now, Run
from rocksyd.units import format_size, rough_duration

if TYPE_CHECKING:
    from rocksyd.core.engine import Engine

CODES = (
    "delay", "retry", "stopping", "max_running", "loading", "fork_failed", "pool_full", "worker_starting", "queue", "next",
    "start_within", "draining", "running", "unanswered", "ending", "timeout", "progress", "old_code", "ok", "failed", "killed",
    "start_too_late", "memory", "pool_memory", "lost", "cancelled", "killed_after_grace", "attempts",
    "parked", "earlier_attempt", "left_behind", "circle", "after", "predecessor", "machine_memory", "usual",
    "debug_log",
)  # fmt: skip
"""Every ``code`` a reason can have; programs rely on them, so they are only added to."""
_SIGKILL, _SIGTERM = 9, 15
_SHOWN = 6
"""Links of a circle that are named."""


class Reason(NamedTuple):
    """One reason: its name for programs, a sentence for people, and what could be done about it."""

    code: str
    text: str
    advice: str = ""


_STOPPING = Reason("stopping", "the daemon stops: what waits is kept and runs after the next start")


def why(
    engine: Engine, run: Run, now: Now, awaited: Callable[[], Awaited] = dict, *, ahead: tuple[int, int] | None = None
) -> dict[str, Any]:
    """What the method ``why`` answers; the first reason is the one that decides.

    ``awaited`` says which workers wait for which runs; it is called for a run that has not ended. ``ahead``: what ``ahead_of``
    has counted, if it was asked.
    """
    if run.state == WAITING:
        ahead = ahead if ahead is not None else _counted(ahead_of(engine, run))
        reasons = [*_in_circle(engine, run, awaited()), *_waits(engine, run, now, ahead)]
    elif run.state == RUNNING:
        reasons = [*_in_circle(engine, run, awaited()), *_runs(engine, run, now)]
    else:
        reasons = _ended(run)
    return {
        "key": run.key,
        "target": run.order.name,
        "state": run.state,
        "outcome": run.attempt.outcome or None,
        "reasons": [reason._asdict() for reason in (*reasons, *_earlier(run))],
        "ahead": ahead[0] if ahead is not None and run.state == WAITING else None,
    }


def left_behind(process: dict[str, Any]) -> Reason:
    """That a process which an ended run has left (``pid``, ``name``) lives on."""
    text = f"process {process['pid']} ({process['name']}), which it has left behind, lives on"
    return Reason("left_behind", text, 'kill ends it; leftover = "kill" ends what is in the run\'s own process group')


def keeps(engine: Engine, run: Run, now: Now) -> Reason | None:
    """What keeps a run that waits; None for one that does not. Cheaper than ``why``: nobody counts who is before it."""
    if run.state != WAITING:
        return None
    if engine.stopping:
        return _STOPPING
    if run.key in engine.following:
        return _comes_after(engine, run)
    if run.not_before > now.mono:
        return _delayed(engine, run, now)
    obstacles = _obstacles(engine, run, now)
    return obstacles[0] if obstacles else Reason("queue", f"its turn in pool {run.pool!r}")


# --- whatever the others do -------------------------------------------------------------------------------------------
def _in_circle(engine: Engine, run: Run, awaited: Awaited) -> list[Reason]:
    links = circle(engine, run, awaited) if awaited else []
    if not links:
        return []
    said = [f"{one.key} waits for {_needed(need)}" for one, need in links[:_SHOWN]]
    more = f", and {_count(len(links) - _SHOWN, 'run')} more" if len(links) > _SHOWN else ""
    return [
        Reason(
            "circle",
            f"a circle of runs keeps it, none of which goes on before another has ended: {', '.join(said)}{more}",
            "end one of them with rocksyd kill; let what a job waits for run in a pool of its own, or raise max_workers, or do "
            "not wait in the job",
        )
    ]


def _needed(need: Need) -> str:
    if need.what == RUN:
        return need.name
    return f"a worker of pool {need.name!r}" if need.what == WORKER else f"room among those of {need.name}"


# --- it waits ---------------------------------------------------------------------------------------------------------
def _waits(engine: Engine, run: Run, now: Now, ahead: tuple[int, int]) -> list[Reason]:
    reasons = []
    if engine.stopping:
        reasons.append(_STOPPING)
    if run.key in engine.following:
        reasons.append(_comes_after(engine, run))
    if run.not_before > now.mono:
        reasons.append(_delayed(engine, run, now))
    elif run.key not in engine.following:
        reasons += _in_line(engine, run, now, *ahead)
    if run.start_by:
        left = _time(run.start_by - now.mono)
        reasons.append(Reason("start_within", f"it is given up in {left} if it has not started by then (start_within)"))
    if engine.draining and not engine.stopping:
        reasons.append(Reason("draining", "the daemon drains: it takes no new runs, but runs those that wait already"))
    if (flag := flags.found(engine, run.order, now)) is not None:
        text = f"what it logs will be in its output from DEBUG on, if it begins within {_time(flag['until'] - now.wall)} (a flag)"
        reasons.append(Reason("debug_log", text, "rocksyd debug --list"))
    return reasons


def _comes_after(engine: Engine, run: Run) -> Reason:
    before = engine.following.waits_for(run.key)
    shown = ", ".join(before[:_SHOWN]) + (f" and {len(before) - _SHOWN:,} more" if len(before) > _SHOWN else "")
    well = "" if run.order.after_outcome == "any" else " well"
    text = f"it begins after {shown} {'have' if len(before) > 1 else 'has'} ended{well} (after)"
    return Reason("after", text, f"rocksyd why {before[0]} says how that one is")


def _delayed(engine: Engine, run: Run, now: Now) -> Reason:
    short = engine.short.get(run.key)
    if short is not None:
        text = f"it will probably need {format_size(short.needs)} of memory, {as_known(engine, run)}, and the machine has "
        text += f"{format_size(short.free)} left beyond what is to stay free (keep_free)"
        return Reason(
            "machine_memory", text, "wait until others have ended, or lower keep_free; rocksyd costs has what was learned"
        )
    begins = f"begins in {_time(run.not_before - now.mono)}"
    if run.attempt.number == 1:
        why = "for a time of its own (eta)" if run.order.eta else "with a delay"
        return Reason("delay", f"it was ordered {why} and {begins}")
    after = f", after {_error(run)}" if run.attempt.error else ""
    most = f" of {run.order.retries + 1}" if run.order.retries else ""
    return Reason("retry", f"attempt {run.attempt.number}{most} {begins}{after}")


def _in_line(engine: Engine, run: Run, now: Now, ahead: int, higher: int) -> list[Reason]:
    """Every obstacle between this run and a worker, and its place in the line."""
    reasons = _obstacles(engine, run, now)
    if run.pool not in engine.pools or run.pool not in engine.queues or run.order.app not in engine.applications:
        return reasons
    if ahead:
        detail = f", {higher} of them with a higher priority" if higher else ""
        reasons.append(Reason("queue", f"{_count(ahead, 'run')} wait{'s' * (ahead == 1)} before it{detail}"))
    elif not any(reason.code in ("max_running", "rate") for reason in reasons):
        reasons.append(Reason("next", f"it is the next in pool {run.pool!r}"))
    return reasons


def _obstacles(engine: Engine, run: Run, now: Now) -> list[Reason]:
    order = run.order
    pool, queue, app = engine.pools.get(run.pool), engine.queues.get(run.pool), engine.applications.get(order.app)
    if pool is None or queue is None or app is None:
        return [Reason("loading", f"application {order.app!r} is not loaded")]
    reasons = []
    running = queue.running.get(order.target, 0)
    same = queue.running_keys[order.target, order.concurrency_key] if order.concurrency_key else 0
    if same and same >= order.max_running_per_key:
        text = f"{same} of {order.target} with the concurrency key {order.concurrency_key!r} run already (max_running_per_key)"
        reasons.append(Reason("max_running", text, "wait for one of them, or raise max_running_per_key"))
    if order.max_running and running >= order.max_running:
        text = f"{running} of {order.target} run already, and no more than {order.max_running} may (max_running)"
        reasons.append(Reason("max_running", text, "wait for one of them, or raise max_running"))
    for (target, key), rate in rates_of(order):
        if (begun := queue.begun.get((target, key), 0)) >= rate[0]:
            of, ends = f" with the concurrency key {key!r}" if key else "", engine.starts.get((run.pool, (target, key)))
            over = f"; the next may in {_time(ends[0] - now.mono)}" if ends else ""
            text = f"{begun} of {order.target}{of} have begun within {_time(rate[1])}, and no more than {rate[0]:g} may{over}"
            reasons.append(Reason("rate", text, f"wait, or raise {'rate_per_key' if key else 'rate'}"))
    if not app.ready:
        text = f"application {order.app!r} is being loaded: there is nothing to fork a worker from yet"
        reasons.append(Reason("loading", text, "rocksyd stats, and the daemon's log, say how that goes"))
    elif not pool.idle and (not reasons or pool.busy >= pool.policy.max_workers):
        reasons.append(_no_worker(pool, now))
    return reasons


def _no_worker(pool: Pool, now: Now) -> Reason:
    if full(pool):
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


def ahead_of(engine: Engine, run: Run) -> Generator[None, None, tuple[int, int]]:
    """How many are before it in the line of its pool, and how many of these because of their priority; piece by piece."""
    queue = engine.queues.get(run.pool)
    if queue is None:
        return 0, 0
    return (yield from ahead_in(queue, run))


def _counted(pieces: Generator[None, None, tuple[int, int]]) -> tuple[int, int]:
    while True:
        try:
            next(pieces)
        except StopIteration as over:
            found: tuple[int, int] = over.value
            return found


# --- it runs ----------------------------------------------------------------------------------------------------------
def _runs(engine: Engine, run: Run, now: Now) -> list[Reason]:
    reasons = []
    worker = engine.workers.get(run.attempt.worker)
    since = f" for {_time(now.mono - run.attempt.started)}" if run.attempt.started else ""
    who = f"process {run.attempt.pid}" if run.attempt.pid else "a worker"
    if run.attempt.kill_reason:
        reasons.append(_ending(run, now))
    if worker is None or not worker.sure:
        text = "the daemon's master was replaced after a crash, and the worker has not said yet how it is getting on"
        reasons.append(Reason("unanswered", text))
    reasons.append(Reason("running", f"it has been running{since} in {who}{_attempt(run)}"))
    if run.attempt.progress:
        reasons.append(Reason("progress", f"it says: {_progress(run.attempt.progress)}"))
    reasons += _usual(engine, run, now)
    if run.attempt.debug:
        reasons.append(Reason("debug_log", "what it logs is in its output from DEBUG on (a flag)", "rocksyd debug --list"))
    if run.attempt.deadline and not run.attempt.kill_reason:
        left = max(run.attempt.deadline - now.mono, 0.0)
        reasons.append(Reason("timeout", f"it is ended in {_time(left)} at the latest (timeout = {_time(run.order.timeout)})"))
    app = engine.applications.get(run.order.app)
    if app is not None and app.generation > run.attempt.generation:
        text = f"its code is of generation {run.attempt.generation}; new runs get generation {app.generation}"
        reasons.append(Reason("old_code", text))
    return reasons


def _usual(engine: Engine, run: Run, now: Now) -> list[Reason]:
    usual, left = engine.costs.usual(run), engine.costs.left(run, now)
    if usual is None:
        return []
    begins = f"its runs take {_time(usual['seconds'])} as a rule"
    if now.mono - run.attempt.started > usual["long"]:
        return [Reason("usual", f"{begins}: this one takes longer than usual", f"rocksyd stack {run.key} shows where it is")]
    return [Reason("usual", f"{begins}{f': about {_time(left)} are left' if left else ''}")]


def _ending(run: Run, now: Now) -> Reason:
    what = {
        TIMEOUT: f"it reached its timeout of {_time(run.order.timeout)}",
        CANCELLED: "it was cancelled",
        MEMORY: "it used too much memory",
        INTERRUPTED: "the daemon stops, and it is run again after the next start (on_stop)",
    }
    begun = what.get(run.attempt.kill_reason, f"it is to end ({run.attempt.kill_reason})")
    if not run.attempt.kill_at:
        outlived = "" if run.attempt.kill_reason == MEMORY else f", outlived its grace of {_time(run.order.grace)}"
        return Reason("ending", f"{begun}{outlived} and was sent KILL")
    told = "told so" if run.attempt.kill_reason == TIMEOUT and kind_of(run.order.kind).soft_timeout else "sent TERM"
    return Reason("ending", f"{begun} and was {told}; KILL follows in {_time(run.attempt.kill_at - now.mono)}")


def _progress(progress: dict[str, Any]) -> str:
    done, total, note = progress.get("done"), progress.get("total"), progress.get("note")
    number = " ".join([f"{done:.10g}"] * (done is not None) + [f"of {total:.10g}"] * (total is not None))
    return ", ".join(part for part in (number, str(note or "")) if part) or "nothing"


# --- it has ended -----------------------------------------------------------------------------------------------------
def _ended(run: Run) -> list[Reason]:
    last, retries = run.attempt, run.order.retries
    reasons = [_ending_of(run)]
    if last.outcome in (TIMEOUT, CANCELLED) and last.signal == _SIGKILL:
        text = f"it did not end within its grace of {_time(run.order.grace)} after TERM, so KILL followed"
        reasons.append(Reason("killed_after_grace", text, "end when current().stopping is true, or raise grace"))
    if last.outcome != OK and (last.number > 1 or retries):
        left = "" if last.number > retries or last.outcome == CANCELLED else ": the daemon was stopping"
        reasons.append(Reason("attempts", f"it was attempt {last.number} of {max(last.number, retries + 1)}{left}"))
    return reasons


def _earlier(run: Run) -> list[Reason]:
    """How the attempts before this one ended, the latest first."""
    return [
        Reason(
            "earlier_attempt",
            f"attempt {past['attempt']} ended as {past['outcome']}: {_described(past['error'], past['retcode'])}",
        )
        for past in reversed(run.earlier)
    ]


def _ending_of(run: Run) -> Reason:
    took = (
        f" after {_time(run.attempt.ended_at - run.attempt.started_at)}"
        if run.attempt.started_at and run.attempt.ended_at
        else ""
    )
    if run.attempt.outcome == OK:
        return Reason(OK, f"it ended well{took}")
    if run.attempt.outcome == FAILED:
        return Reason(FAILED, f"it failed{took}: {_error(run)}", _look(run))
    if run.attempt.outcome == KILLED:
        return Reason(KILLED, f"it was ended by signal {run.attempt.signal}{took}, which the daemon had not sent", _killer(run))
    if run.attempt.outcome == TIMEOUT and not run.attempt.started_at:
        return Reason("start_too_late", "no worker was free for it in time (start_within, or the pool's queue_timeout)",
                      "raise max_workers, or start_within")  # fmt: skip
    if run.attempt.outcome == TIMEOUT:
        return Reason(TIMEOUT, f"it was ended{took}, at its timeout of {_time(run.order.timeout)}", _look(run))
    if run.attempt.outcome == CANCELLED:
        return _cancelled(run, took)
    if run.attempt.outcome == MEMORY:
        return Reason(MEMORY, f"it was ended{took} because it used too much memory ({format_size(run.attempt.max_rss)})",
                      "raise max_rss_hard, or let it use less")  # fmt: skip
    return Reason(LOST, f"nobody knows how it ended: {_error(run)}", "look at what it was to do before you run it again")


def _cancelled(run: Run, took: str) -> Reason:
    if (run.attempt.error or {}).get("type") == PREDECESSOR:
        return Reason("predecessor", f"it was cancelled: {_error(run)}", "retry that one, and then this one: rocksyd retry")
    if not run.attempt.started_at:
        return Reason(CANCELLED, "it was cancelled before it had started")
    return Reason(CANCELLED, f"it was cancelled{took}: somebody ended it, or the daemon was stopped")


def _error(run: Run) -> str:
    return _described(run.attempt.error, run.attempt.retcode)


def _described(error: dict[str, Any] | None, retcode: int | None) -> str:
    """The exception, or the exit status, in one line."""
    error = error or {}
    kind, message = str(error.get("type") or ""), str(error.get("message") or "").partition("\n")[0]
    text = ": ".join(part for part in (kind, message) if part)
    return text or f"exit status {retcode}"


def _look(run: Run) -> str:
    return f"rocksyd logs {run.key} shows its output" if kind_of(run.order.kind).has_output else ""


def _killer(run: Run) -> str:
    if run.attempt.signal == _SIGKILL:
        return "somebody's kill -9, or the kernel for want of memory: its log (dmesg) would say so"
    return "somebody's kill" if run.attempt.signal == _SIGTERM else "a crash of the process itself, if nobody sent it"


def _attempt(run: Run) -> str:
    return f", attempt {run.attempt.number} of {max(run.attempt.number, run.order.retries + 1)}" if run.attempt.number > 1 else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _time(seconds: float) -> str:
    return rough_duration(max(seconds, 0.0))
