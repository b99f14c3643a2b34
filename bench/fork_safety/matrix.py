"""From what happened in four stages to a verdict.

What must live here: the stages, the rule, a row of the table. What this file must not know: zygotes, files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bench.fork_safety.zygote import Outcome
from rocksyd.doctor.findings import HOOK, SAFE, UNSAFE

STAGES = ("imported", "created", "used", "hooked")
"""Before the fork: only imported; its object made; that used, too; that used, with the hooks around the fork."""

_TRIES = 4


class Row(NamedTuple):
    """One library."""

    name: str
    module: str
    version: str
    verdict: str
    hook: str
    """What the hooks do; "" where none is needed, or none helps."""
    stages: dict[str, str]
    """What went wrong at each stage; "" for nothing."""


def judge(case: Any, version: str, attempt: Callable[[str], Outcome]) -> Row:
    """Try the stages in turn.

    *Safe*: imported, made and used before the fork it works in three workers at once, and nothing is left for which the zygote
    would be refused. *Safe with a hook*: imported it does, and with the hooks also after use. *Not safe*: anything else.
    """
    stages = {stage: _problem(_tried(attempt, stage)) for stage in STAGES[:3]}
    name = case.name or case.distribution
    if not any(stages.values()):
        return Row(name, case.module, version, SAFE, "", stages)
    if case.warned:
        stages["hooked"] = attempt("used").text
    else:
        stages["hooked"] = _problem(attempt("hooked")) if case.hook else "there is no hook for it"
    verdict = UNSAFE if stages["imported"] or stages["hooked"] else HOOK
    return Row(name, case.module, version, verdict, case.hook if verdict == HOOK else "", stages)


def _tried(attempt: Callable[[str], Outcome], stage: str) -> Outcome:
    """What became of it; where something is shared and nothing went wrong, it is tried again: who gets whose answer is chance."""
    for _ in range(_TRIES):
        outcome = attempt(stage)
        if not outcome.ok or not outcome.left:
            break
    return outcome


def _problem(outcome: Outcome) -> str:
    """What went wrong; also what would have been refused, although it may have gone well."""
    left = _counted(outcome.left)
    if outcome.ok:
        return f"refused: {left}" if left else ""
    return f"{outcome.text} (and would be refused: {left})" if left else outcome.text


def _counted(left: tuple[str, ...]) -> str:
    """``a thread, 2 sockets``."""
    counts = {kind: sum(f" left a {kind} " in text for text in left) for kind in ("thread", "socket")}
    return ", ".join(f"a {kind}" if count == 1 else f"{count} {kind}s" for kind, count in counts.items() if count)
