"""What happens to masters and to the service, and what follows from it: deaths, deadlines, signals.

What must live here: one step for each event but what masters say (``words``).
What this file must not know: the system.
"""

from __future__ import annotations

from rocksyd import messages
from rocksyd.exit_status import signal_name
from rocksyd.keeper.effects import Bury, Discard, Effect, Kill, Log, LoseServing, Send, Serves, Stop
from rocksyd.keeper.events import Begin, Died, Expired, Hindered, Hung, Signal
from rocksyd.keeper.stages import INSISTING, STOP_SIGNALS, Stages
from rocksyd.units import format_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _begin(stages: Stages, _: Begin, now: float) -> list[Effect]:
    return stages.begin_attempt("start", now, stages.limits.hello)


def _died(stages: Stages, event: Died, now: float) -> list[Effect]:
    stages.leaving.pop(event.master, None)
    role = stages.role(event.master)
    if role == "candidate":
        return _candidate_died(stages, event.how, now)
    if role == "serving":
        return _serving_died(stages, event.how, now)
    return []


def _candidate_died(stages: Stages, how: str, now: float) -> list[Effect]:
    if stages.stage != "failing":
        missing = {"started": "HELLO", "reading": "PREPARED", "preparing": "PREPARED"}.get(stages.stage, "ADOPTED")
        stages.failure = f"the new master {how} before it said {missing}"
    lost, stages.candidate = stages.candidate, 0
    effects: list[Effect] = [Discard(lost)]
    if stages.serving:
        return effects + _go_on_with_old(stages, now)
    if not stages.has_served:
        return effects + stages.end(Stop(1, stages.failure, failed=True))
    if stages.bereft:
        return effects + stages.next_rung(now)
    return effects + stages.climb(stages.failure, 0.0, now)


def _go_on_with_old(stages: Stages, now: float) -> list[Effect]:
    stages.enter("idle", None)
    # The one answer to RESTART is FREEZE or RESTART_FAILED; whoever was told FREEZE is told THAW.
    answer = messages.Thaw(stages.failure) if stages.frozen else messages.RestartFailed(stages.failure)
    stages.frozen = False
    effects: list[Effect] = [Send(stages.serving, answer), Log(f"restart failed: {stages.failure}")]
    effects.append(Serves(0, "restart failed: " + stages.failure.strip().split("\n")[-1]))
    return effects + stages.tell_held(now)


def _serving_died(stages: Stages, how: str, now: float) -> list[Effect]:
    lost, stages.serving = stages.serving, 0
    stage, was_frozen, stages.frozen = stages.stage, stages.frozen, False
    stages.held[:0] = stages.told
    stages.told.clear()
    stages.insist_ends = None
    effects: list[Effect] = [LoseServing(lost, how)]
    if sum(1 for number in stages.held if number in INSISTING) >= 2:
        return effects + stages.end(Stop(0, f"the master {how} after a second order to stop", now=True))
    if not stages.candidate:
        return effects + stages.climb(f"the master {how}", now - stages.served_since, now)
    if stage in ("started", "reading", "preparing", "failing"):
        return effects + _bereave(stages, how, now)
    # The candidate can take over at once: it is used instead of starting another one.
    if not was_frozen:
        stages.ladder.fell(f"the master {how}", now - stages.served_since)
    if stage in ("freezing", "unfreezing"):
        effects.extend(stages.adopt(now, snapshot=False))
    return effects


def _bereave(stages: Stages, how: str, now: float) -> list[Effect]:
    """The candidate may be minutes from taking over, if it ever comes so far, and meanwhile nobody would serve: it goes."""
    how = f"the master {how} while a restart was under way"
    stages.ladder.fell(how, now - stages.served_since)
    stages.bereft = True
    effects: list[Effect] = [Log(f"restart failed: {how}")]
    return effects if stages.stage == "failing" else effects + stages.fail(how, now)


def _hindered(stages: Stages, event: Hindered, now: float) -> list[Effect]:
    return stages.fail(event.reason, now) if stages.candidate and stages.stage != "failing" else []


def _hung(stages: Stages, event: Hung, now: float) -> list[Effect]:
    """An exiting process's channel often ends a moment before it can be reaped, so it gets that moment."""
    stages.leaving.setdefault(event.master, now + stages.limits.closing)
    return []


def _expired(stages: Stages, _: Expired, now: float) -> list[Effect]:
    effects: list[Effect] = []
    for master in [number for number, time in stages.leaving.items() if time <= now]:
        del stages.leaving[master]
        effects.append(Kill(master))
    if stages.insist_ends is not None and stages.insist_ends <= now:
        return effects + stages.end(Stop(0, "the master did not stop in time after a second order to stop", now=True))
    if stages.stage_ends is not None and stages.stage_ends <= now:
        effects.extend(_stage_expired(stages, now))
    return effects


def _stage_expired(stages: Stages, now: float) -> list[Effect]:
    if stages.stage == "waiting":
        return stages.begin_crash_attempt(now)
    if stages.stage == "freezing":
        stages.enter("unfreezing", now + stages.limits.reap)
        late = f"the old master did not freeze within {format_duration(stages.adopt_timeout)}"
        return [Log(f"{late}; killing it"), Kill(stages.serving)]
    if stages.stage == "unfreezing":
        return [Bury(stages.serving)]
    if stages.stage == "failing":
        return [Bury(stages.candidate)]
    missing, seconds = {
        "started": ("HELLO", "the hello timeout"),
        "reading": ("that it has read its configuration", "the hello timeout"),
        "preparing": ("PREPARED", "its prepare timeout"),
        "adopting": ("ADOPTED", f"{format_duration(stages.adopt_timeout)}"),
    }[stages.stage]
    return stages.fail(f"the new master did not say {missing} within {seconds}", now)


def _signal(stages: Stages, event: Signal, now: float) -> list[Effect]:
    number = event.number
    if not stages.has_served and number in STOP_SIGNALS:
        return stages.end(Stop(0, f"stopped by {signal_name(number)} before it was ready", now=True, failed=True))
    if number in INSISTING:
        earlier = sum(1 for one in stages.told + stages.held if one in INSISTING)
        if earlier >= (2 if stages.serving else 1):
            return stages.end(Stop(0, f"stopped at once by a repeated {signal_name(number)}", now=True))
    stages.held.append(number)
    return stages.tell_held(now)


EVENTS: dict[type[Any], Callable[[Stages, Any, float], list[Effect]]] = {
    Begin: _begin,
    Died: _died,
    Hung: _hung,
    Hindered: _hindered,
    Expired: _expired,
    Signal: _signal,
}
