"""What is to be done about a script's ticks: from its definition, how far it has come, and *now*.

What must live here: which ticks are run, which are not and why; what the run before has to do with it.
What this file must not know: how a run is ordered, where anything is kept, clocks.

Every tick gets a verdict: it is run, or it is left out for a reason. Nothing falls between two verdicts: each begins where the
one before it ended (the *position*).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rocksyd.schedule.script import ALL, ALLOW, BUFFER_ALL, BUFFER_ONE, CANCEL, ONCE, TERMINATE, Script

RUN, MISSED, OVERLAP, PAUSED, REFUSED, CLOCK = "run", "missed", "overlap", "paused", "refused", "clock"
"""What became of ticks: run; or left out because nobody was there in time, the run before went on, the script was paused, the
daemon refused the run for good, or the machine's clock had been wrong."""
LATE = 60
"""Seconds after which a tick that nobody has looked at is missed, although the scheduler was there (a suspended machine)."""
WRONG_CLOCK = 86_400
"""Seconds that a position may be ahead of the clock (which was set back); one that is further ahead came from a wrong clock."""


class Verdict(NamedTuple):
    """What becomes of ticks: of one that is run, or of a series of them that is not."""

    what: str
    first: int
    """Nominal time of the first."""
    last: int
    number: int = 1
    """How many ticks these are."""
    reason: str = ""
    late: bool = False
    """Whether it is run although it was missed (``misfire = "all"``): such ticks wait for each other, whatever ``overlap`` is."""


class Presence(NamedTuple):
    """How far a script has come, and since when somebody has been looking."""

    position: int
    """Everything up to this nominal time has a verdict."""
    since: float
    """Unix seconds since which the scheduler has been there."""


def due_at(script: Script, position: int) -> int | None:
    """When something is to be decided next, in Unix seconds; None for never."""
    found = script.timetable.after(position) if script.timetable else None
    return None if found is None else found + script.delay


def decide(script: Script, presence: Presence, now: float) -> list[Verdict]:
    """The verdicts on all ticks that are due at ``now`` (Unix seconds), earliest first; none when none is due."""
    position, table = presence.position, script.timetable
    end = int(now) - script.delay
    if position > now + WRONG_CLOCK:
        return [
            Verdict(CLOCK, end + 1, position, 0, "the clock was set back by more than a day: the schedule begins anew from now")
        ]
    if table is None or (latest := _latest(script, position, end)) is None:
        return []
    if latest >= end - LATE and table.after(position) == latest:  # one, and in time: as nearly always
        return [Verdict(RUN, latest, latest, late=script.misfire == ALL and latest < presence.since - script.delay)]
    timely = _timely(script, presence, latest, now)
    chosen, late = timely, frozenset[int]()
    first_timely = timely[0] if timely else latest + 1
    if script.misfire == ALL:
        late = frozenset(table.newest(position, first_timely - 1, script.misfire_limit))
        chosen = sorted(late) + timely
    elif script.misfire == ONCE:
        missed = table.latest(first_timely - 1)
        if missed is not None and missed > position and _worth_it(script, missed, now):
            chosen = [missed, *timely]
    return list(_with_the_rest(script, position, chosen, late, latest))


def _latest(script: Script, position: int, end: int) -> int | None:
    """The last tick behind the position that is not later than ``end``; None where there is none. One is the usual number."""
    assert script.timetable is not None
    first = script.timetable.after(position)
    if first is None or first > end:
        return None
    second = script.timetable.after(first)
    return first if second is None or second > end else script.timetable.latest(end)


def _timely(script: Script, presence: Presence, latest: int, now: float) -> list[int]:
    """The ticks that are not missed: somebody was there, and looks in time. A moment's absence is none for the latest tick.

    (With ``misfire = "all"`` that one is run anyway, as one of the missed.)
    """
    assert script.timetable is not None
    oldest = now - script.delay - LATE
    here = max(oldest, presence.since - script.delay)
    found = list(script.timetable.between(max(presence.position, int(here) - 1), latest))
    found = [tick for tick in found if tick >= here]
    return found or ([latest] if latest >= oldest and script.misfire != ALL else [])


def _worth_it(script: Script, missed: int, now: float) -> bool:
    assert script.timetable is not None
    if script.misfire_within is not None:
        return now - missed <= script.misfire_within
    following = script.timetable.after(missed)
    return following is None or now - script.delay < following


def _with_the_rest(script: Script, position: int, chosen: list[int], late: frozenset[int], latest: int) -> Iterable[Verdict]:
    """The ticks that are run, and between them those that are not."""
    assert script.timetable is not None
    for tick in [*chosen, None]:
        end = latest if tick is None else tick - 1
        number = script.timetable.number(position, end)
        if number:
            first, last = script.timetable.after(position), script.timetable.latest(end)
            assert first is not None and last is not None
            yield Verdict(MISSED, first, last, number, _why_missed(script))
        if tick is not None:
            yield Verdict(RUN, tick, tick, late=tick in late)
            position = tick


def _why_missed(script: Script) -> str:
    limit = f", misfire_limit = {script.misfire_limit}" if script.misfire == ALL else ""
    return f'nobody was there when it was due, and misfire = "{script.misfire}"{limit}'


def left_out(script: Script, position: int, until: float, what: str, reason: str) -> list[Verdict]:
    """One verdict on all ticks behind the position that are due until then (Unix seconds); none where there is none."""
    table, end = script.timetable, int(until) - script.delay
    if table is None or (latest := _latest(script, position, end)) is None:
        return []
    first = table.after(position)
    assert first is not None
    return [Verdict(what, first, latest, table.number(position, latest), reason)]


class Going(NamedTuple):
    """A run of the script that has not ended."""

    key: str
    running: bool
    """False while it waits."""


class Step(NamedTuple):
    """What is to be done about a tick with the runs before it still there."""

    submit: bool
    reason: str = ""
    """Why it is not submitted."""
    end: tuple[str, ...] = ()
    """Keys of runs to be ended before."""
    signal: str = "TERM"


def step(script: Script, going: list[Going], *, late: bool = False) -> Step:
    """What ``overlap`` says of the next tick. (Runs that are submitted all the same wait for each other, but with ``allow``.)

    ``late``: it is one of several that were missed and are all to be run (``Verdict.late``).
    """
    if not going or late or script.overlap in (ALLOW, BUFFER_ALL):
        return Step(submit=True)
    if script.overlap in (CANCEL, TERMINATE):
        return Step(submit=True, end=tuple(run.key for run in going), signal="KILL" if script.overlap == TERMINATE else "TERM")
    waiting = [run for run in going if not run.running]
    if script.overlap == BUFFER_ONE and not waiting:
        return Step(submit=True)
    blocking = waiting[0] if script.overlap == BUFFER_ONE else going[0]
    state = "still runs" if blocking.running else "still waits"
    return Step(submit=False, reason=f'{blocking.key} {state}, and overlap = "{script.overlap}"')
