"""What masters say, and what follows from it.

What must live here: one step for each message at each stage; a message that has none there changes nothing.
What this file must not know: deaths, deadlines and signals (``happenings``).
"""

from __future__ import annotations

from rocksyd import messages
from rocksyd.keeper.effects import CheckCode, Effect, Log, Promote, Reloading, Send, SendPrepare, Serves, Stop
from rocksyd.keeper.stages import Stages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _hello(stages: Stages, message: messages.Hello, now: float) -> list[Effect]:
    stages.adopt_timeout = message.adopt_timeout
    if message.more:
        stages.enter("reading", now + stages.hello_timeout)
    else:
        stages.enter("preparing", now + message.prepare_timeout)
    crash = stages.cause == "crash"
    reason = stages.ladder.last if crash else ""
    return [SendPrepare(stages.candidate, stages.cause, reason, stages.ladder.young, crash and stages.stopping)]


def _hello_again(stages: Stages, message: messages.Hello, now: float) -> list[Effect]:
    """It has read its configuration, and knows better how long it may take."""
    stages.adopt_timeout = message.adopt_timeout
    stages.enter("preparing", now + message.prepare_timeout)
    return []


def _prepared(stages: Stages, _: messages.Prepared, now: float) -> list[Effect]:
    if not stages.serving:
        return stages.adopt(now, snapshot=False)
    stages.frozen = True
    stages.enter("freezing", now + stages.adopt_timeout)
    return [Send(stages.serving, messages.Freeze())]


def _frozen(stages: Stages, _: messages.Frozen, now: float) -> list[Effect]:
    return stages.adopt(now, snapshot=True)


def _adopted(stages: Stages, message: messages.Adopted, now: float) -> list[Effect]:
    """The point of no return: from here the old master must not speak again, whatever becomes of the new one."""
    old, stages.serving, stages.candidate = stages.serving, stages.candidate, 0
    stages.served_since = now
    stages.has_served = True
    stages.frozen = False
    stages.enter("idle", None)
    effects: list[Effect] = [Promote(stages.serving)]
    if old:
        effects.append(Send(old, messages.Retired()))
        stages.leaving[old] = now + stages.limits.leave
    effects.append(Serves(message.generation, message.status))
    effects.extend(stages.tell_held(now))
    if stages.cause == "restart":
        effects.append(CheckCode())
    return effects


def _cannot(stages: Stages, message: messages.PrepareFailed | messages.Refused, now: float) -> list[Effect]:
    return stages.fail(message.reason or "the new master gave no reason", now)


def _restart(stages: Stages, message: messages.Restart, now: float) -> list[Effect]:
    effects = stages.begin_attempt("restart", now, message.hello_timeout)
    return [Reloading(message.reason or "restarting"), *effects]


def _restart_again(stages: Stages, _: messages.Restart, now: float) -> list[Effect]:
    return [Log("RESTART while a restart is under way: its outcome answers both")]


def _status(stages: Stages, message: messages.Status, now: float) -> list[Effect]:
    stages.stopping = stages.stopping or message.stopping
    return []


def _stopped(stages: Stages, message: messages.Stopped, now: float) -> list[Effect]:
    return stages.end(Stop(message.status, message.reason, orderly=True))


WORDS: dict[tuple[str, str, type[Any]], Callable[[Stages, Any, float], list[Effect]]] = {
    ("candidate", "started", messages.Hello): _hello,
    ("candidate", "started", messages.PrepareFailed): _cannot,
    ("candidate", "reading", messages.Hello): _hello_again,
    ("candidate", "reading", messages.PrepareFailed): _cannot,
    ("candidate", "preparing", messages.Hello): _hello_again,
    ("candidate", "preparing", messages.Prepared): _prepared,
    ("candidate", "preparing", messages.PrepareFailed): _cannot,
    # Something of what it had prepared was lost while the old master froze.
    ("candidate", "freezing", messages.PrepareFailed): _cannot,
    ("candidate", "unfreezing", messages.PrepareFailed): _cannot,
    ("candidate", "adopting", messages.PrepareFailed): _cannot,
    ("candidate", "adopting", messages.Adopted): _adopted,
    # Killed too late: it had begun to serve, so this is the crash of a serving master and no roll-back.
    ("candidate", "failing", messages.Adopted): _adopted,
    ("candidate", "adopting", messages.Refused): _cannot,
    ("serving", "idle", messages.Restart): _restart,
    ("serving", "*", messages.Restart): _restart_again,
    ("serving", "freezing", messages.Frozen): _frozen,
    ("serving", "unfreezing", messages.Frozen): _frozen,
    ("serving", "*", messages.Status): _status,
    ("serving", "*", messages.Stopped): _stopped,
}
"""(role, stage, message) -> what follows; a triple that is not here is logged and changes nothing."""
