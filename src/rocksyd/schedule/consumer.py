"""How many instances of a queue's consumer there should be: from what waits, how long, and how fast it is worked off.

What must live here: the definition, and every decision about its size.
What this file must not know: how a queue is asked, how a run is ordered, clocks: what time it is comes with each look.

It grows at once and shrinks late, and it shrinks only by not starting the next one: nothing here ever ends a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, NamedTuple

from rocksyd import retrying
from rocksyd.schedule.script import ALLOW, Script
from rocksyd.units import rough_duration

ROLE = "consumer"
"""The label ``role`` of all runs of consumers."""
MOST_WAITING = 1e15
"""What a queue may say at most, of numbers and of seconds."""
FAILED_MOST = 60.0
"""Seconds for which nothing is started after failures, at most."""
LEARNS = 0.3
"""What the latest run counts in the pace that is learned."""


class Consumer(NamedTuple):
    """One consumer. Durations are seconds."""

    name: str
    depth: str
    """The target that is asked how much waits."""
    min: int = 0
    max: int = 1
    per_instance: int = 1
    """How much waits for one instance to be worth it."""
    max_age: float = 0.0
    """The oldest is not to wait longer; 0 for no such aim."""
    within: float = 0.0
    """What waits is to be worked off in this time; 0 for no such aim."""
    look_every: float = 5.0
    shrink_after: float = 60.0
    owner: str = ""
    tags: tuple[str, ...] = ()
    order: dict[str, Any] = {}
    """The parameters of ``run``, without a key."""
    asked: dict[str, Any] = {}
    """Those of the call of ``depth``."""


DEPTH_TIMEOUT = 10.0
"""Seconds in which ``depth`` has to answer."""
AHEAD = 1000
"""Priority of asking for the depth: it takes a moment, and decides on all others."""


def define(name: str, said: Mapping[str, Any]) -> Consumer:
    """The consumer that these settings describe, as ``config.ConsumerConfig`` has them."""
    app = said.get("app") or None
    order = {
        "target": said["target"], "params": said.get("params") or [], "app": app, "timeout": said.get("max_time") or None,
        "env": said.get("env") or None, "labels": {"script": name, "role": ROLE},
    }  # fmt: skip
    asked = {"target": said["depth"], "app": app, "timeout": DEPTH_TIMEOUT, "start_within": DEPTH_TIMEOUT, "priority": AHEAD}
    return Consumer(
        name, said["depth"], said["min"], said["max"], said["per_instance"], said["max_age"] or 0.0, said["within"] or 0.0,
        said["look_every"], said["shrink_after"], said["owner"], tuple(said["tags"]),
        {key: value for key, value in order.items() if value is not None},
        {key: value for key, value in asked.items() if value is not None},
    )  # fmt: skip


def as_script(consumer: Consumer) -> Script:
    """What a consumer has in common with scripts: it is listed, paused, and run by hand as one that has no schedule."""
    return Script(consumer.name, None, owner=consumer.owner, tags=consumer.tags, order=consumer.order, overlap=ALLOW)


class Depth(NamedTuple):
    """What a queue says of itself."""

    waiting: int
    age: float = 0.0
    """Seconds for which the oldest has waited; 0 where nobody knows."""


def depth_of(answer: Any) -> Depth:
    """What ``depth`` has returned: how many wait, or ``[number, seconds of the oldest]``, or ``{"waiting", "oldest"}``.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(answer, dict):
        answer = [answer.get("waiting"), answer.get("oldest") or 0]
    waiting, age = answer if isinstance(answer, list) and len(answer) == 2 else (answer, 0)
    for number in (waiting, age if age is not None else 0):
        if type(number) not in (int, float) or not 0 <= number <= MOST_WAITING:
            raise ValueError(
                "expected how many wait, or [number, seconds that the oldest has waited], or an object with waiting and oldest; "
                f"it returned {str(answer)[:200]}"
            )
    return Depth(ceil(waiting), float(age or 0))


class History(NamedTuple):
    """What is remembered of a consumer between two looks."""

    needs: tuple[tuple[float, int], ...] = ()
    """When how many were needed, as far as ``shrink_after`` looks back."""
    pace: float = 0.0
    """What one instance handles in a second, as far as its runs say; 0 where none has."""
    failures: int = 0
    """Runs that have failed since one did not."""
    failed_at: float = 0.0
    """When the last of them did (Unix seconds)."""


class Size(NamedTuple):
    """What follows from one look."""

    wanted: int
    start: int
    """How many are started now."""
    why: str
    history: History


def need(consumer: Consumer, depth: Depth, running: int, pace: float) -> tuple[int, str]:
    """How many instances the queue needs as it is now, and why."""
    if not depth.waiting:
        return consumer.min, "nothing waits"
    found = ceil(depth.waiting / consumer.per_instance)
    why = f"{depth.waiting:,} wait, an instance for each {consumer.per_instance:,}"
    if consumer.within and pace:
        found = ceil(depth.waiting / (pace * consumer.within))
        why = f"{depth.waiting:,} wait, and one handles {pace:.3g} a second"
    if consumer.max_age and depth.age > consumer.max_age and found <= running:
        found, why = running + 1, f"the oldest has waited {rough_duration(depth.age)}"
    return max(consumer.min, min(consumer.max, found)), why


def size(consumer: Consumer, history: History, depth: Depth, running: int, now: float) -> Size:
    """How many there should be, and how many are started now, with so many of its runs waiting or running.

    It grows at once, but no more than to twice as many and one at one look: what was started just now has changed nothing yet.
    What was needed within ``shrink_after`` still counts, so that a queue that comes and goes starts and ends nothing each time.
    """
    needed, why = need(consumer, depth, running, history.pace)
    needs = (*(one for one in history.needs if now - consumer.shrink_after < one[0] <= now), (now, needed))
    wanted = max(number for _, number in needs)
    if wanted > needed:
        why = f"{why}; {wanted} were needed within the time of shrink_after"
    start = max(0, min(wanted, max(2 * running + 1, consumer.min)) - running)
    start = min(start, max(depth.waiting, consumer.min - running, 0))  # what finds nothing to do is not started
    if start and (left := resting(history, consumer.name) - now) > 0:
        why = f"{history.failures} of its runs have failed one after the other: none is started for {rough_duration(left)}"
        start = 0
    return Size(wanted, start, why, history._replace(needs=_thinned(needs)))


def _thinned(needs: tuple[tuple[float, int], ...]) -> tuple[tuple[float, int], ...]:
    """Without those behind which as many, or more, were needed: they change nothing."""
    kept: list[tuple[float, int]] = []
    for one in needs:
        while kept and kept[-1][1] <= one[1]:
            kept.pop()
        kept.append(one)
    return tuple(kept)


def resting(history: History, name: str) -> float:
    """Until when nothing is started, in Unix seconds, because the latest runs have failed; 0 where it may."""
    return history.failed_at + min(FAILED_MOST, retrying.wait({}, name, history.failures)) if history.failures else 0.0


def learned(history: History, record: Mapping[str, Any]) -> History:
    """What the record of a run that has ended says of the pace: a job that returns how many it handled is measured by it."""
    ended, began, handled = float(record.get("ended_at") or 0), float(record.get("started_at") or 0), record.get("result")
    if record.get("outcome") != "ok":
        ours = record.get("outcome") == "cancelled"  # somebody has ended it, or there was nothing to do
        return history if ours else history._replace(failures=history.failures + 1, failed_at=ended)
    history = history._replace(failures=0)
    if isinstance(handled, int | float) and 0 < handled <= MOST_WAITING and ended > began > 0:
        pace = handled / (ended - began)
        return history._replace(pace=pace if not history.pace else history.pace + LEARNS * (pace - history.pace))
    return history
