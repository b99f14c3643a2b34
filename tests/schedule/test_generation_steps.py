"""A generation between any two steps of its way: whoever is killed there, each hook and each job is run once."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until
from tests.schedule.stage import STEPS_OF, gone
from tests.schedule.test_generations import ran, staged

STEPS = [
    "call init", "called init", "add", "added", "save", "saved", "call job", "called job", "ended", "ended saved",
    "call finish", "called finish", "end", "end saved",
]  # fmt: skip
GATED = (
    STEPS_OF
    + """
from rocksyd.companions import generation_asking, generation_store, scheduler

def serve(companion):
    step = steps_of(companion)

    def between(home, name, before, after):
        real = getattr(home, name)
        def stepping(self, *given):
            step(before)
            found = real(self, *given)
            step(after)
            return found
        setattr(home, name, stepping)

    call = generation_asking.Asking.call

    async def calling(self, order):
        kind = order["key"].rpartition(".")[2]
        kind = "job" if kind.isdigit() else kind
        step("call " + kind)
        found = await call(self, order)
        step("called " + kind)
        return found

    generation_asking.Asking.call = calling
    Store = generation_store.GenerationStore
    between(Store, "add", "add", "added")
    between(Store, "save", "save", "saved")
    between(Store, "ended", "ended", "ended saved")
    between(Store, "end", "end", "end saved")
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
[companions.{name}.settings.scripts.{name}]
target = "one"
every = 1.0
misfire = "all"
misfire_limit = 1000
overlap = "buffer_all"
jobs = {{ from = "shops" }}
finish = "done"
"""
NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", ["scheduler", "master"])
def test_whoever_is_killed_between_two_steps_of_a_generation_each_part_is_run_once(tmp_path: Path, victim: str) -> None:
    """Several schedulers, each with a script of its own, stand at a step of theirs when they are killed."""
    (tmp_path / "gated.py").write_text(GATED)
    tables = ""
    for name in NAMES:
        (tmp_path / name).mkdir()
        os.mkfifo(tmp_path / name / "never")
        tables += TABLE.format(name=name, store=json.dumps(str(tmp_path / name / "schedule.sqlite")))
    steps = STEPS if victim == "scheduler" else STEPS[::4]
    with staged(tmp_path, tables) as served:
        for first in range(0, len(steps), len(NAMES)):
            stops = dict(zip(NAMES, steps[first : first + len(NAMES)], strict=False))
            _wait_each(served, dict.fromkeys(stops, 1))
            for name, step in stops.items():
                (tmp_path / name / "stop-at").write_text(step)
            for name, step in stops.items():
                until((tmp_path / name / "stopped").exists, f"the step {step}")
                for one in ("stop-at", "stopped"):
                    (tmp_path / name / one).unlink()
            companions = [pid for name in stops for pid in served.children(f"rocksyd: {name}")]
            assert len(companions) == len(stops)
            if victim == "master":
                os.kill(served.master_pid, signal.SIGKILL)
            for pid in companions:  # they stand at the step, and cannot leave by themselves
                os.kill(pid, signal.SIGKILL)
            for pid in companions:
                gone(pid)
        _wait_each(served, dict.fromkeys(NAMES, 2), "finish")
        begun = ran(served)
        assert set(Counter(begun).values()) == {1}
        over = [key.removesuffix(".finish") for key in begun if key.endswith(".finish")]
        parts = [f"{key}.{part}" for key in over for part in ("init", "0", "1", "2")]
        assert set(parts) <= set(begun)
        places = [[begun.index(f"{key}.{part}") for part in ("init", n, "finish")] for key in over for n in "012"]
        assert all(three == sorted(three) for three in places)


def _wait_each(served: Daemon, more: dict[str, int], part: str = "") -> None:
    """Wait until of each script so many parts more than now have been begun."""

    def count(name: str) -> int:
        return sum(key.startswith(f"{name}@") and key.endswith(part) for key in ran(served))

    for name, goal in {name: count(name) + number for name, number in more.items()}.items():
        until(lambda: count(name) >= goal, f"{goal} of {name}")  # noqa: B023
