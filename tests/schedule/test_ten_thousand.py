"""Ten thousand ticks through changes of the clock, suspends, wrong clocks, deploys and kills at any step: each has its place."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from rocksyd import codes
from rocksyd.companions.schedule_store import Store
from rocksyd.companions.ticking import Ticking
from rocksyd.errors import NoDaemon, NotFound, RequestError
from rocksyd.schedule.decide import CLOCK
from rocksyd.schedule.script import Script, define
from tests.restart.stage import many

BERLIN = ZoneInfo("Europe/Berlin")
FROM = {
    "forward": int(datetime(2026, 3, 26, tzinfo=BERLIN).timestamp()),
    "back": int(datetime(2026, 10, 22, tzinfo=BERLIN).timestamp()),
}
TICKS = many(5_000, 10_000)
"""Of each of the two."""


class Killed(BaseException):
    """The scheduler is killed here."""


class World:
    """A daemon that knows ticks and floors, a clock that goes as it likes, and the moment of the next kill."""

    def __init__(self, start: int, seed: int) -> None:
        self.now = float(start)
        self.choose = random.Random(seed)
        self.runs: dict[str, dict[str, Any]] = {}
        self.begun: Counter[str] = Counter()
        self.floor = ""
        self.away = 0
        """Calls for which the daemon does not answer."""
        self.steps_left = -1

    def step(self) -> None:
        """A kill may happen here."""
        self.steps_left -= 1
        if self.steps_left == 0:
            raise Killed

    def answers(self, calls: list[tuple[str, dict[str, Any]]]) -> list[Any]:
        self.step()
        if self.away:
            self.away -= 1
            raise NoDaemon("it is being restarted")
        found = [self.answer(method, params) for method, params in calls]
        self.step()
        return found

    def answer(self, method: str, params: dict[str, Any]) -> Any:
        if method == "list":
            return list(self.runs.values())[: -params["limit"] - 1 : -1]
        known = self.runs.get(params["key"])
        if method == "status":
            return known or NotFound(codes.NOT_FOUND, "there is no such run")
        assert method == "run"
        if known is not None:
            return known
        if params["tick"]["time"] < self.floor:
            return RequestError(codes.NOT_ALLOWED, "older than what was run")
        if self.choose.random() < 0.02:
            return RequestError(codes.TOO_BUSY, "full")
        self.floor = params["tick"]["time"]
        self.begun[params["key"]] += 1
        self.runs[params["key"]] = {"key": params["key"], "state": "ended", "outcome": "ok", "tick": params["tick"]}
        return self.runs[params["key"]]


class KilledStore(Store):
    """A store in whose middle the scheduler may be killed."""

    world: World

    def save(self, entries: Any, accounts: Any = ()) -> None:
        self.world.step()
        super().save(entries, accounts)
        self.world.step()


def a_life(world: World, path: Path, script: Script, end: int) -> None:
    """A scheduler from its start to its end: it is killed, or the clock has come to the end."""
    store = KilledStore(str(path))
    store.world = world
    world.steps_left = world.choose.randint(1, 400)
    try:
        assert store.acquire(wait=False)
        ticking = Ticking(store, world, lambda: world.now)  # type: ignore[arg-type]
        ticking.begin({script.name: script}, {script.name: script})
        while world.now < end:
            due = ticking.next()
            chance = world.choose.random()
            if chance < 0.01:
                world.now += world.choose.randint(300, 4 * 3600)  # suspended
                ticking.look_at_all()
            elif chance < 0.02:
                world.now -= world.choose.randint(1, 2 * 3600)  # set back
                ticking.look_at_all()
            elif chance < 0.03:
                world.away = world.choose.randint(1, 3)
            elif chance < 0.04:
                raise Killed  # a deploy: another one takes over
            elif due is None or due > world.now:
                world.now = max(world.now + 0.25, min(due or end, world.now + 120))
            ticking.look()
    except Killed:
        pass
    finally:
        store.close()


def to_the_end(world: World, path: Path, script: Script) -> None:
    """A scheduler that lives until nothing is due."""
    store = Store(str(path))
    assert store.acquire(wait=False)
    world.steps_left, world.away = -1, 0
    ticking = Ticking(store, world, lambda: world.now)  # type: ignore[arg-type]
    ticking.begin({script.name: script}, {script.name: script})
    while (due := ticking.next()) is not None and due <= world.now:
        ticking.look()
        world.now += 0.5
    store.close()


@pytest.mark.parametrize(("way", "misfire"), [("forward", "once"), ("back", "all")])
def test_the_table_of_ticks_has_no_hole_and_none_is_run_twice(tmp_path: Path, way: str, misfire: str) -> None:
    script = define("s", {"target": "t", "cron": "* * * * *", "misfire": misfire, "overlap": "allow"}, "Europe/Berlin")
    path = tmp_path / "schedule.sqlite"
    world = World(FROM[way], seed=sum(map(ord, way + misfire)))
    end = FROM[way] + 60 * TICKS
    lives = 0
    found: list[tuple[Any, ...]] = []

    def take_down() -> None:
        with closing(sqlite3.connect(path)) as db:  # only the latest 1,000 of a script are kept
            found.extend(db.execute("SELECT what, first, last, count, reason, key FROM accounts ORDER BY number"))
            db.execute("DELETE FROM accounts")
            db.commit()

    while world.now < end:
        a_life(world, path, script, end)
        take_down()
        lives += 1
    world.now = end
    to_the_end(world, path, script)
    take_down()
    assert lives > 25
    assert script.timetable is not None
    position = FROM[way]
    for what, first, last, count, reason, key in found:
        assert first == script.timetable.after(position), "no hole, and none twice"
        assert script.timetable.number(position, last) == count
        assert reason or key, what
        assert what != CLOCK
        position = last
    assert script.timetable.number(FROM[way], end) >= TICKS
    assert position >= end - 60
    assert set(world.begun.values()) == {1}
    assert set(world.begun) == {key for *_, key in found if key}, "what was run is what is written down as run"
