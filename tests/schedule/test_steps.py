"""A tick between any two steps of its way: whoever is killed there, it is run once and accounted for."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until
from tests.schedule.stage import STEPS_OF, daemon, gone, ran, wait_ran

STEPS = {"one": "status", "two": "run", "three": "run acknowledged", "four": "save", "five": "saved"}
"""Scheduler -> the step that it stands at when it is killed."""
GATED = (
    STEPS_OF
    + """
from rocksyd.client import Client
from rocksyd.companions import schedule_store, scheduler

def serve(companion):
    step = steps_of(companion)

    answers, save = Client.answers, schedule_store.Store.save

    def answers_with_steps(self, calls):
        step(calls[0][0])
        found = answers(self, calls)
        step(calls[0][0] + " acknowledged")
        return found

    def save_with_steps(self, entries, accounts=()):
        accounts = list(accounts)
        if accounts:
            step("save")
        save(self, entries, accounts)
        if accounts:
            step("saved")

    Client.answers, schedule_store.Store.save = answers_with_steps, save_with_steps
    scheduler.Scheduler.declare = lambda self: None
    scheduler.serve(companion)
"""
)
TABLE = """
[companions.{name}]
target = "gated:serve"
path = "."
[companions.{name}.settings]
timezone = "UTC"
file = ""
calendars = {{}}
store = {store}
[companions.{name}.settings.scripts.{script}]
target = "tick"
every = 1.0
misfire = {misfire}
misfire_limit = 1000
"""


def gated(folder: Path, *names: str, misfire: str = "all", script: str = "") -> Daemon:
    """A daemon with such schedulers, each with a store of its own, and with a script of its own unless one is named."""
    (folder / "gated.py").write_text(GATED)
    tables = ""
    for name in names:
        (folder / name).mkdir()
        os.mkfifo(folder / name / "never")
        store = json.dumps(str(folder / name / "schedule.sqlite"))
        tables += TABLE.format(name=name, store=store, misfire=json.dumps(misfire), script=script or name)
    return daemon(folder, tables)


def ran_of(served: Daemon, name: str) -> list[str]:
    """Keys of the runs of one script whose code was begun, in that order."""
    return [key for key in ran(served) if key.startswith(f"{name}@")]


def wait_each(served: Daemon, counts: dict[str, int]) -> None:
    """Wait until so many runs of each script have been begun."""
    for name, count in counts.items():
        until(lambda: len(ran_of(served, name)) >= count, f"{count} runs of {name}")  # noqa: B023


def accounts(folder: Path) -> list[tuple[Any, ...]]:
    """What a scheduler has written down of its ticks: what, first, last, count, reason, key."""
    with closing(sqlite3.connect(f"file:{folder}/schedule.sqlite?mode=ro", uri=True)) as db:
        return db.execute("SELECT what, first, last, count, reason, key FROM accounts ORDER BY number").fetchall()


def without_a_hole(found: list[tuple[Any, ...]]) -> None:
    position = found[0][1] - 1
    for what, first, last, count, reason, key in found:
        assert (first, last) == (position + 1, position + count), "no hole, and none twice"
        assert reason or key, what
        position = last


@pytest.mark.parametrize("victim", ["scheduler", "master", "keeper"])
def test_whoever_is_killed_between_two_steps_of_a_tick_it_is_run_once(tmp_path: Path, victim: str) -> None:
    """xxl-job #3447: there the schedule is moved on before the run is made, and a tick is lost.

    There is a scheduler for each step, so that one kill meets all of them.
    """
    with gated(tmp_path, *STEPS) as served:
        wait_each(served, dict.fromkeys(STEPS, 1))
        for name, step in STEPS.items():
            (tmp_path / name / "stop-at").write_text(step)
        for name, step in STEPS.items():
            until((tmp_path / name / "stopped").exists, f"the step {step}")
            (tmp_path / name / "stop-at").unlink()
        before = {name: len(ran_of(served, name)) for name in STEPS}
        companions = [pid for name in STEPS for pid in served.children(f"rocksyd: {name}")]
        assert len(companions) == len(STEPS)
        if victim == "keeper":  # with it end its runs, those included whose code has not begun yet
            talk = served.talk()
            until(lambda: not any(talk.rpc("list", state=state) for state in ("waiting", "running")), "all runs to have ended")
        if victim != "scheduler":
            os.kill(served.pid if victim == "keeper" else served.master_pid, signal.SIGKILL)
        for pid in companions:  # they stand at the step, and cannot leave by themselves
            os.kill(pid, signal.SIGKILL)
        if victim == "keeper":
            served.wait(-9)
            served.start()
        for pid in companions:
            gone(pid)
        wait_each(served, {name: count + 2 for name, count in before.items()})
        for name in STEPS:
            found = accounts(tmp_path / name)
            without_a_hole(found)
            until(lambda: {key for *_, key in found if key} <= set(ran(served)), "the beginning of all that was acknowledged")  # noqa: B023
            begun = Counter(ran_of(served, name))
            assert set(begun.values()) == {1}
            until(
                lambda: begun.keys() <= {key for *_, key in accounts(tmp_path / name)},  # noqa: B023
                "all that was run to be written down",
            )
            assert {what for what, *_ in found} <= {"run", "overlap"}, "none is missed"


def test_two_schedulers_at_once_make_no_second_run_and_one_that_slept_does_no_harm(tmp_path: Path) -> None:
    """apscheduler #160."""
    with gated(tmp_path, "one", "two", misfire="skip", script="beat") as served:
        wait_ran(served, 3)
        (sleeper,) = served.children("rocksyd: two")
        (tmp_path / "two" / "stop-at").write_text("run")
        until((tmp_path / "two" / "stopped").exists, "the second scheduler to be about to order a tick")
        os.kill(sleeper, signal.SIGSTOP)
        (tmp_path / "two" / "stop-at").unlink()
        wait_ran(served, len(ran(served)) + 3)
        os.kill(sleeper, signal.SIGCONT)
        with open(tmp_path / "two" / "never", "w") as never:
            never.write("go on")
        seen = len(accounts(tmp_path / "two"))
        until(lambda: len(accounts(tmp_path / "two")) >= seen + 3, "the second scheduler to be at work again")
        assert set(Counter(ran(served)).values()) == {1}
        for name in ("one", "two"):
            without_a_hole(accounts(tmp_path / name))
        keys = {key for *_, key in accounts(tmp_path / "one") if key}
        assert keys & {key for *_, key in accounts(tmp_path / "two") if key}, "both have ordered the same ticks"


def test_a_tick_that_one_scheduler_had_left_out_is_not_run_by_one_that_slept(tmp_path: Path) -> None:
    """nomad #16583, dkron #541: twice after a take-over. The second is about to order a tick that the first never had."""
    with gated(tmp_path, "one", "two", misfire="skip", script="beat") as served:
        for name in ("one", "two"):
            (tmp_path / name / "stop-at").write_text("run")
        for name in ("one", "two"):
            until((tmp_path / name / "stopped").exists, f"{name} to be about to order a tick")
        before = ran(served)
        (first,) = served.children("rocksyd: one")
        (tmp_path / "one" / "stop-at").unlink()  # it stands there; the one that is started in its place does not
        os.kill(first, signal.SIGKILL)
        wait_ran(served, len(before) + 2)
        (tmp_path / "two" / "stop-at").unlink()
        with open(tmp_path / "two" / "never", "w") as never:
            never.write("go on")
        until(lambda: len(accounts(tmp_path / "two")) >= 3, "the second scheduler to be at work again")
        assert set(Counter(ran(served)).values()) == {1}
        without_a_hole(accounts(tmp_path / "two"))
