"""A generation between any two steps of its way: whoever is killed there, each hook and each job is run once."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from rocksyd.testing.daemon import until
from tests.schedule.stage import gone
from tests.schedule.test_generations import ran, staged

STEPS = [
    "call init", "called init", "add", "added", "save", "saved", "call job", "called job", "ended", "ended saved",
    "call finish", "called finish", "end", "end saved",
]  # fmt: skip
GATED = """
import os
from rocksyd.companions import generation_asking, generation_store, scheduler

def serve(companion):
    here = os.path.dirname(companion.settings["store"])

    def step(name):
        try:
            wanted = open(os.path.join(here, "stop-at")).read()
        except FileNotFoundError:
            return
        if wanted == name:
            open(os.path.join(here, "stopped"), "w").close()
            open(os.path.join(here, "never")).read()

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
TABLE = """
[companions.one]
target = "gated:serve"
path = "."
[companions.one.settings]
timezone = "UTC"
file = ""
calendars = {{}}
store = {store}
[companions.one.settings.scripts.beat]
target = "one"
every = 1.0
misfire = "all"
misfire_limit = 1000
overlap = "buffer_all"
jobs = {{ from = "shops" }}
finish = "done"
"""


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", ["scheduler", "master"])
def test_whoever_is_killed_between_two_steps_of_a_generation_each_part_is_run_once(tmp_path: Path, victim: str) -> None:
    (tmp_path / "gated.py").write_text(GATED)
    here = tmp_path / "one"
    here.mkdir()
    os.mkfifo(here / "never")
    table = TABLE.format(store=json.dumps(str(here / "schedule.sqlite")))
    with staged(tmp_path, table) as served:
        for step in STEPS if victim == "scheduler" else STEPS[::4]:
            before = len(ran(served))
            until(lambda: len(ran(served)) > before, "something to go on")  # noqa: B023
            (here / "stop-at").write_text(step)
            until((here / "stopped").exists, f"the step {step}")
            (companion,) = served.children("rocksyd: one")
            for one in ("stop-at", "stopped"):
                (here / one).unlink()  # it stands there; whoever is started in its place does not
            pid = companion if victim == "scheduler" else served.master_pid
            os.kill(pid, signal.SIGKILL)
            if victim != "scheduler":
                os.kill(companion, signal.SIGKILL)  # it stands at the step, and cannot leave by itself
            gone(companion)
        count = sum(key.endswith(".finish") for key in ran(served))
        until(lambda: sum(key.endswith(".finish") for key in ran(served)) >= count + 2, "two more")
        begun = ran(served)
        assert set(Counter(begun).values()) == {1}
        over = [key.removesuffix(".finish") for key in begun if key.endswith(".finish")]
        parts = [f"{key}.{part}" for key in over for part in ("init", "0", "1", "2")]
        assert set(parts) <= set(begun)
        places = [[begun.index(f"{key}.{part}") for part in ("init", n, "finish")] for key in over for n in "012"]
        assert all(three == sorted(three) for three in places)
