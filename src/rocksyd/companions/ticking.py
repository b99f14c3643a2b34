"""What the scheduler does when ticks are due: ask how the runs before are, order the next, write down what became of each tick.

What must live here: the order of these steps, and what follows from the daemon's answers.
What this file must not know: which ticks are due and what is to become of them (``rocksyd.schedule``), SQL, threads' beginnings.

The order is the promise: a run is ordered under the tick's key, the daemon acknowledges it, then the position is moved. Whatever
dies in between, the same tick is ordered again under the same key, and the daemon answers that it knows it.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from rocksyd import codes, ticks
from rocksyd.client import Client
from rocksyd.companions import generation_store
from rocksyd.companions.generations import Generations
from rocksyd.companions.schedule_store import Account, Entry, Store
from rocksyd.errors import NoDaemon, RequestError
from rocksyd.posix.log import log
from rocksyd.schedule import generation
from rocksyd.schedule.decide import (
    MISSED,
    OVERLAP,
    PAUSED,
    REFUSED,
    RUN,
    Going,
    Presence,
    Step,
    Verdict,
    decide,
    due_at,
    left_out,
    step,
)
from rocksyd.schedule.depends import DEPENDS, Came, needs
from rocksyd.schedule.script import ALLOW, BUFFER_ALL, Script
from rocksyd.schedule.words import key_time

AGAIN = 1.0
"""Seconds until a tick is tried again that the daemon could not take: it drains, is too busy, or does not answer."""
LATEST = 20
"""Runs of a script that are looked through for a tick that the scheduler before had no time to write down."""
ANOTHER = "its schedule was changed before it was run"
"""Why a tick was left out that was due by a schedule that holds no longer."""
GOING_MOST = 20
"""Runs of a script that are remembered as going on."""


class Todo(NamedTuple):
    """The next tick of one script that is to be run, and what is known of the runs before it."""

    name: str
    verdict: Verdict
    step: Step


def _ticks_of(name: str, records: list[dict[str, Any]]) -> dict[int, str]:
    """The nominal times of those that are ticks of the script's schedule, and their keys."""
    own = ((record.get("tick") or {}, record["key"]) for record in records)
    return {
        int(ticks.moment(tick).timestamp()): key
        for tick, key in own
        if tick.get("script") == name and "n" not in tick and key == ticks.key_of(tick)
    }


class Ticking:
    """All scripts, and how far each has come. ``lock`` guards the entries; it is not held while the daemon is asked."""

    def __init__(self, store: Store, client: Client, clock: Callable[[], float]) -> None:
        self.scripts: dict[str, Script] = {}
        self.lock = threading.Lock()
        self.entries: dict[str, Entry] = {}
        self._store = store
        self._client = client
        self._clock = clock
        self._since = clock()
        self._everything = False
        """Whether each script is to be looked at, whenever it is due."""
        self._held: dict[str, float] = {}
        """Scripts whose next tick the daemon could not take, and when it is tried again."""
        self._due: list[tuple[float, str]] = []
        self._when: dict[str, float] = {}
        """When each script is due; what stands in ``_due`` beside that is no longer true."""
        self._changed: dict[str, Entry] = {}
        """What the store is to hold at the end of the round, with ``_accounts``."""
        self._accounts: list[Account] = []
        self.left_out: Callable[[], object] = lambda: None
        """Called when it was written down that ticks are not run."""
        self.generations: Generations | None = None
        """Those that go on, from when this scheduler acts."""
        self._unsure: set[str] = set()
        """Scripts whose first tick may have been ordered by the scheduler before, which had no time to write that down."""

    def begin(self, scripts: dict[str, Script], before: dict[str, Script]) -> None:
        """Take over where the scheduler before has left; ``before`` are the scripts as they were then, those that are known."""
        self.entries = self._store.load()
        self._since, self.scripts = self._clock(), before
        self.define(scripts)
        self._unsure = set(scripts)

    def define(self, scripts: dict[str, Script]) -> None:
        """From now on these are the scripts. Only for the thread that looks what is due."""
        now, changed, accounts = self._clock(), {}, []
        with self.lock:
            before, self.scripts = self.scripts, scripts
            for name, script in scripts.items():
                entry, old = self.entries.get(name), before.get(name)
                if entry is None or entry.retired:
                    changed[name] = self.entries[name] = Entry(int(now) - script.delay)
                elif old is not None and old.schedule != script.schedule:
                    verdicts = left_out(old, entry.position, now, MISSED, ANOTHER)
                    accounts += [Account(name, verdict) for verdict in verdicts]
                    entry.position, changed[name] = max(entry.position, int(now) - script.delay), entry
            for name, entry in self.entries.items():
                if name not in scripts and not entry.retired:
                    entry.retired, changed[name] = now, entry
                    self._when.pop(name, None)
            self._store.save(changed, accounts)
            self._everything = True

    # --- when ---------------------------------------------------------------------------------------------------------
    def _plan(self, name: str) -> None:
        entry = self.entries[name]
        due = None if entry.paused else due_at(self.scripts[name], entry.position)
        self._when.pop(name, None)
        if due is not None:
            self._when[name] = max(due, self._held.get(name, 0.0))
            heapq.heappush(self._due, (self._when[name], name))

    def next(self) -> float | None:
        """When something is due, in Unix seconds; 0 for at once, None for never."""
        with self.lock:
            if self._everything:
                return 0.0
            while self._due and self._when.get(self._due[0][1]) != self._due[0][0]:
                heapq.heappop(self._due)
            return self._due[0][0] if self._due else None

    def look_at_all(self) -> None:
        """The clock was set: what stands in the list of what is due may not be true."""
        with self.lock:
            self._everything = True

    # --- what ---------------------------------------------------------------------------------------------------------
    def look(self) -> None:
        """Deal with everything that is due."""
        now = self._clock()
        with self.lock:
            names: set[str] = set()
            if self._everything:
                self._everything = False
                self._due, self._when = [], {}
                for name in self.scripts:
                    self._plan(name)
                names = {name for name, entry in self.entries.items() if entry.position > now}  # the clock was set back
            while self._due and self._due[0][0] <= now:
                names.add(heapq.heappop(self._due)[1])
            names &= self.scripts.keys()
            left = {name: self._decided(name, now) for name in sorted(names)}
        self._settle(left)
        while left := {name: verdicts for name, verdicts in left.items() if verdicts}:
            try:
                self._round(left)
                self._save()
            except NoDaemon as error:
                self._save()
                log("scheduler", f"the daemon does not answer, ticks wait: {error}")
                for name in left:
                    self._hold(name)
                break
        with self.lock:
            for name in names:
                self._plan(name)

    def _settle(self, left: dict[str, list[Verdict]]) -> None:
        """Ask about ticks that seem to be missed, and were perhaps ordered by the scheduler before."""
        asked = {name: verdicts[0] for name, verdicts in left.items() if verdicts and name in self._unsure}
        self._unsure -= asked.keys()
        asked = {name: verdict for name, verdict in asked.items() if verdict.what == MISSED}
        lists = [("list", {"labels": {"script": name}, "limit": LATEST}) for name in asked]
        try:
            answers = self._client.answers(lists) if lists else []
        except NoDaemon:
            self._unsure |= asked.keys()
            return
        for (name, verdict), answer in zip(asked.items(), answers, strict=True):
            found = {} if isinstance(answer, RequestError) else _ticks_of(name, answer)
            for tick in sorted(tick for tick in found if verdict.first <= tick <= verdict.last):
                script, position = self.scripts[name], self.entries[name].position
                for missed in left_out(script, position, tick - 1 + script.delay, MISSED, verdict.reason):
                    self._record(name, missed)
                self._record(name, Verdict(RUN, tick, tick), found[tick])
                left[name] = self._decided(name, self._clock())
        self._save()

    def _decided(self, name: str, now: float) -> list[Verdict]:
        entry = self.entries[name]
        if entry.paused or self._held.get(name, 0.0) > now:
            return []
        return decide(self.scripts[name], Presence(entry.position, self._since), now)

    def _round(self, left: dict[str, list[Verdict]]) -> None:
        """The next tick of each of these scripts."""
        for name, verdicts in left.items():
            while verdicts and verdicts[0].what != RUN:
                self._record(name, verdicts.pop(0))
        waits_for = self._needs(left)
        todo = self._with_steps({name: left[name][0] for name in waits_for})
        for one in todo:
            if not one.step.submit:
                left[one.name].pop(0)
                self._record(one.name, one.verdict._replace(what=OVERLAP, reason=one.step.reason))
        todo = [one for one in todo if one.step.submit]
        for one in [one for one in todo if self.scripts[one.name].listed]:
            assert self.generations is not None
            todo.remove(one)
            begun = generation.of_tick(self.scripts[one.name], one.verdict.first, list(waits_for[one.name]))
            for key in one.step.end:
                self.generations.kill(key, f"by the tick {begun.time}")
            self._store.begun.append(generation_store.row(begun))  # with the position, in one transaction
            self._record(one.name, left[one.name].pop(0), begun.key)
        ends = [("terminate", {"key": key, "signal": one.step.signal}) for one in todo for key in one.step.end]
        if ends:
            self._client.answers(ends)
        if not todo:
            return
        answers = self._client.answers([("run", self.order(one.name, one.verdict.first)) for one in todo])
        for one, answer in zip(todo, answers, strict=True):
            if self._taken(one, answer):
                left[one.name].pop(0)
            else:
                left[one.name].clear()

    def _needs(self, left: dict[str, list[Verdict]]) -> dict[str, tuple[str, ...]]:
        """Of those whose next tick is for this round, what it waits for. One that depends on a script that has not come so far is
        for a later round, or for later."""
        found: dict[str, tuple[str, ...]] = {}
        came = {name: Came(one.position, one.last, one.last_key, bool(one.paused)) for name, one in self.entries.items()}
        for name in [name for name, verdicts in left.items() if verdicts]:
            verdict = left[name][0]
            known = needs(self.scripts[name], verdict.first, self.scripts, came)
            if known.reason:
                self._record(name, left[name].pop(0)._replace(what=DEPENDS, reason=known.reason))
            elif not known.early:
                found[name] = known.keys
            elif not left.get(known.early):  # it is not to come in this look
                self._hold(name)
                left[name].clear()
        return found

    def order(self, name: str, tick: int) -> dict[str, Any]:
        """The parameters of ``run`` for a tick."""
        time = key_time(tick)
        return {**self.scripts[name].order, "key": f"{name}@{time}", "tick": {"script": name, "time": time}}

    def _with_steps(self, next_ticks: dict[str, Verdict]) -> list[Todo]:
        asked = [
            (name, key)
            for name in next_ticks
            if self.scripts[name].overlap not in (ALLOW, BUFFER_ALL) and not self.scripts[name].listed
            for key in self.entries[name].going
        ]
        answers = self._client.answers([("status", {"key": key}) for _, key in asked]) if asked else []
        going: dict[str, list[Going]] = {name: [] for name in next_ticks}
        for (name, key), answer in zip(asked, answers, strict=True):
            if not isinstance(answer, RequestError) and answer["state"] != "ended":
                going[name].append(Going(key, answer["state"] == "running"))
        for name in next_ticks:
            script = self.scripts[name]
            if script.listed and script.overlap not in (ALLOW, BUFFER_ALL) and self.generations is not None:
                going[name] = [Going(one.key, one.stage != generation.QUEUED) for one in self.generations.going_of(name)]
        with self.lock:
            for name in {name for name, _ in asked}:
                self.entries[name].going = [one.key for one in going[name]]
        ticks = {name: f"{name}@{key_time(verdict.first)}" for name, verdict in next_ticks.items()}
        return [
            Todo(
                name, verdict, step(self.scripts[name], [one for one in going[name] if one.key != ticks[name]], late=verdict.late)
            )
            for name, verdict in next_ticks.items()
        ]

    def _taken(self, one: Todo, answer: Any) -> bool:
        """Write down what the daemon has answered; false when the tick has to wait."""
        if not isinstance(answer, RequestError):
            self._record(one.name, one.verdict, answer["key"])
            return True
        if answer.code in (codes.TOO_BUSY, codes.NOT_NOW):
            self._hold(one.name)
            return False
        log("scheduler", f"script {one.name}: the tick {key_time(one.verdict.first)} is refused: {answer}")
        self._record(one.name, one.verdict._replace(what=REFUSED, reason=str(answer)))
        return True

    def _hold(self, name: str) -> None:
        self._held[name] = self._clock() + AGAIN

    def _record(self, name: str, verdict: Verdict, key: str = "") -> None:
        with self.lock:
            entry = self.entries[name]
            entry.position = verdict.last if verdict.number else verdict.first - 1
            if key:
                entry.last, entry.last_key = verdict.last, key
                entry.going = [*(one for one in entry.going if one != key), key][-GOING_MOST:]
            self._changed[name] = entry
            self._accounts.append(Account(name, verdict, key))

    def _save(self) -> None:
        """Write down what this round has brought. What cannot be written now is with the next round."""
        with self.lock:
            if self._accounts:
                begun = bool(self._store.begun)
                self._store.save(self._changed, self._accounts)
                if any(account.verdict.what != RUN for account in self._accounts):
                    self.left_out()
                self._changed, self._accounts = {}, []
                if begun and self.generations is not None:
                    self.generations.look()

    # --- by hand ------------------------------------------------------------------------------------------------------
    def pause(self, name: str, who: str) -> None:
        """Let the script have no further ticks. What runs goes on."""
        with self.lock:
            entry = self.entries[name]
            if not entry.paused:
                entry.paused = who
                self._store.save({name: entry})

    def resume(self, name: str) -> int:
        """Let it have ticks again, from now on; returns how many it has not had meanwhile."""
        with self.lock:
            entry = self.entries[name]
            if not entry.paused:
                return 0
            verdicts = left_out(self.scripts[name], entry.position, self._clock(), PAUSED, f"paused {entry.paused}")
            entry.paused = ""
            if verdicts:
                entry.position = verdicts[0].last
            self._store.save({name: entry}, [Account(name, verdict) for verdict in verdicts])
            self._plan(name)
            return sum(verdict.number for verdict in verdicts)

    def ordered(self, name: str, key: str) -> None:
        """Somebody has ordered a run of the script by hand."""
        with self.lock:
            entry = self.entries[name]
            entry.going = [*entry.going, key][-GOING_MOST:]
            entry.last_key = key
            self._store.save({name: entry})
