"""Generations with real processes: lists of jobs, their hooks, who is killed meanwhile, and scripts that depend on others."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, until
from rocksyd.testing.project import for_tests
from tests.files import lines
from tests.schedule.stage import error, gone, scheduler, wait_ready

JOBS = """
import os, pathlib, time
from rocksyd import current, job

HERE = os.path.dirname(__file__)

def note(text):
    fd = os.open(os.path.join(HERE, "ran"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, (text + "\\n").encode())
    os.close(fd)

def wait_for(name):
    while not os.path.exists(os.path.join(HERE, name)):
        time.sleep(0.005)

@job
def shops():
    note(current().key)
    return ["a", "b", "c"]

@job
def many():
    note(current().key)
    size = int(open(os.path.join(HERE, "size")).read())
    added = current().generation.add({"shop": n} for n in range(size // 2))
    return current().generation.add({"shop": n} for n in range(size))

@job
def fails():
    note(current().key)
    raise ValueError("no list today")

@job
def one(*args, **named):
    run = current()
    note(run.key)
    if run.job == "b" and os.path.exists(os.path.join(HERE, "break")):
        raise ValueError("no")
    return [run.job, run.index, run.total, list(args), named, run.tick.isoformat()]

@job
def waits(*args):
    note(current().key)
    wait_for("go")

@job
def grows(number):
    note(current().key)
    if number < 3:
        current().generation.add([number + 1])

@job
def done():
    run = current()
    note(run.key)
    results = list(run.generation.results(limit=7))
    return {"jobs": len(results), "outcomes": sorted({one["outcome"] for one in results})}

class Hooked:
    def init_jobs(self):
        note(current().key)
        return [1, 2]
    def run(self, params):
        note(current().key)
        return params
    def finish_jobs(self):
        note(current().key)
        return [one["result"] for one in current().generation.results()]
"""
POOL = 'pm = "dynamic"\nmax_workers = 4\nmin_spare = 1\nmax_spare = 2\nmax_jobs = 0\ngrace = "30s"'


def staged(folder: Path, scripts: str) -> Daemon:
    return Daemon(folder, JOBS, parts={"top": scripts, "pool": POOL})


def ran(served: Daemon) -> list[str]:
    return lines(served.app / "ran")


def begin(talk: Conversation, name: str) -> str:
    return str(talk.rpc("schedule.run", name=name)["key"])


def ended(served: Daemon, key: str) -> dict[str, Any]:
    """Wait until a generation has ended."""
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(served.talk().rpc("schedule.generation", generation=key))
        return found["stage"] == "ended"

    until(over, f"the end of {key}")
    return found


LISTS = """
[scripts.hooks]
target = "one"
jobs = { from = "shops" }
finish = "done"
[scripts.numbers]
target = "one"
params = ["all"]
jobs = { range = [5, 8] }
[scripts.eight]
target = "one"
jobs = { instances = 3 }
instances = 1
[scripts.class]
target = "Hooked"
jobs = { from = "init_jobs" }
finish = "finish_jobs"
[scripts.broken]
target = "one"
jobs = { from = "fails" }
finish = "done"
[scripts.grows]
target = "grows"
jobs = { range = [0, 1] }
"""


def test_lists_of_every_kind_with_their_hooks_and_what_their_jobs_know(tmp_path: Path) -> None:
    with staged(tmp_path, LISTS) as served:
        talk = served.talk()
        keys = {name: begin(talk, name) for name in ("hooks", "numbers", "eight", "class", "broken", "grows")}
        found = {name: ended(served, key) for name, key in keys.items()}
        outcomes = {name: (one["outcome"], one["total"], one["ended"], one["failed"]) for name, one in found.items()}
        assert outcomes == {
            "hooks": ("ok", 3, 3, 0), "numbers": ("ok", 4, 4, 0), "eight": ("ok", 3, 3, 0), "class": ("ok", 2, 2, 0),
            "broken": ("failed", 0, 0, 0), "grows": ("ok", 4, 4, 0),
        }  # fmt: skip
        assert found["broken"]["reason"] == f"{keys['broken']}.init ended as failed: no job was begun"
        key = keys["hooks"]
        tick = talk.rpc("status", key=f"{key}.0")["result"][-1]
        results = talk.rpc("schedule.results", generation=key)
        assert [one["result"] for one in results["jobs"]] == [[name, n, 3, [name], {}, tick] for n, name in enumerate("abc")]
        assert talk.rpc("status", key=f"{key}.finish")["result"]["jobs"] == 3
        begun = ran(served)
        assert begun.index(f"{key}.init") < begun.index(f"{key}.0") < begun.index(f"{key}.finish")
        assert f"{keys['broken']}.finish" not in begun
        assert talk.rpc("status", key=f"{keys['numbers']}.3")["result"][:4] == [8, 3, 4, ["all"]]
        assert talk.rpc("status", key=f"{keys['eight']}.1")["result"][:4] == [None, 1, 3, []]
        assert talk.rpc("status", key=f"{keys['class']}.finish")["result"] == [[1], [2]]
        page = talk.rpc("schedule.results", generation=key, limit=2)
        assert (len(page["jobs"]), page["next"]) == (2, 1)
        (row,) = [row for row in talk.rpc("schedule.list") if row["name"] == "hooks"]
        assert (row["last_outcome"], row["generation"]["ended"]) == ("ok", 3)
        assert error(talk, "schedule.add", generation=key, jobs=["d"])["message"] == f"the jobs of {key} are over"
        assert error(talk, "schedule.add", generation="nobody@x", jobs=[1])["code"] == -32001


BIG = """
[scripts.big]
target = "one"
jobs = { from = "many" }
finish = "done"
"""


@pytest.mark.long
@pytest.mark.timeout(300)
def test_each_job_is_run_once_whoever_is_killed_or_replaced_meanwhile(tmp_path: Path) -> None:
    size = 300
    with staged(tmp_path, BIG) as served:
        (served.app / "size").write_text(str(size))
        key = begin(served.talk(), "big")
        for turn in range(1, 11):
            until(lambda: len(ran(served)) > turn * 25, f"turn {turn}")  # noqa: B023
            if turn % 3 == 0:
                pid = scheduler(served)
                os.kill(pid, signal.SIGKILL)
                gone(pid)
            elif turn % 4 == 0:
                os.kill(served.master_pid, signal.SIGKILL)
            else:
                assert served.restart() == {"error_text": "Restarted successfully"}
            until(lambda: served.children("rocksyd: scheduler"), "a scheduler")
        found = ended(served, key)
        assert (found["outcome"], found["total"], found["ended"]) == ("ok", size, size)
        expected = {f"{key}.init", f"{key}.finish", *(f"{key}.{n}" for n in range(size))}
        assert Counter(ran(served)) == Counter(expected)
        finish = served.talk().rpc("status", key=f"{key}.finish")["result"]
        assert (finish["jobs"], finish["outcomes"]) == (size, ["ok"])


KILLED = """
[scripts.slow]
target = "waits"
jobs = { instances = 20 }
instances = 2
finish = "done"
overlap = "buffer_one"
cron = "0 3 29 2 *"
"""


def test_one_is_killed_as_a_whole_and_what_was_buffered_follows_it(tmp_path: Path) -> None:
    with staged(tmp_path, KILLED) as served:
        talk = served.talk()
        first, second = begin(talk, "slow"), begin(talk, "slow")
        until(lambda: len(ran(served)) == 2, "as many jobs at once as may be")
        assert talk.rpc("schedule.generation", generation=second)["stage"] == "waiting", "one after the other"
        assert error(talk, "schedule.add", generation=second, jobs=[1])["message"] == f"{second} has not begun"
        pid = scheduler(served)
        os.kill(pid, signal.SIGKILL)
        wait_ready(served.talk(), "scheduler", other_than=pid)
        assert talk.rpc("schedule.show", name="slow")["going"] == [first, second]
        assert sorted(talk.rpc("schedule.kill", name="slow")["ended"]) == sorted([first, second])
        found = ended(served, first)
        assert (found["outcome"], found["ended"], found["failed"]) == ("cancelled", 20, 20)
        assert found["reason"].startswith("ended by ")
        assert ended(served, second)["outcome"] == "cancelled"
        assert sorted(ran(served)) == [f"{first}.0", f"{first}.1"], "nothing else was begun, and no hook"
        (served.app / "go").touch()
        third = begin(talk, "slow")
        assert ended(served, third)["outcome"] == "ok"
        assert len(ran(served)) == 2 + 21


DEPENDING = """
timezone = "UTC"
[scripts.load]
target = "one"
every = "1h"
jobs = { from = "shops" }
[scripts.report]
target = "one"
depends_on = ["load"]
params = ["report"]
[scripts.mail]
target = "waits"
depends_on = ["report"]
[scripts.sums]
target = "one"
every = "1h"
depends_on = ["load"]
jobs = { range = [1, 2] }
"""


def test_scripts_that_depend_on_others_wait_for_their_ticks(tmp_path: Path) -> None:
    with staged(tmp_path, DEPENDING) as served:
        talk = served.talk()
        rows = {row["name"]: row for row in talk.rpc("schedule.list")}
        assert rows["mail"]["next"] == rows["report"]["next"] == rows["load"]["next"]
        assert rows["mail"]["depends_on"] == ["report"]
        (served.app / "break").touch()
        hour = rows["load"]["next"]
        past = hour.replace(hour[:10], "2026-01-01")
        filled = talk.rpc("schedule.backfill", **{"name": "load", "from": past, "to": past})
        found = ended(served, filled["ordered"][0])
        assert (found["outcome"], found["reason"]) == ("failed", "1 of 3 jobs did not end well")
        assert talk.rpc("schedule.backfill", **{"name": "load", "from": past, "to": past})["known"] == filled["ordered"]
        (report,) = talk.rpc("schedule.backfill", **{"name": "report", "from": past, "to": past})["ordered"]
        found = ended(served, report)
        assert (found["outcome"], found["reason"]) == (
            "cancelled", f"{filled['ordered'][0]} ended as failed, and it depends on that",
        )  # fmt: skip
        assert report not in ran(served)
        older = past.replace("2026-01-01", "2025-12-31")
        (key,) = talk.rpc("schedule.backfill", **{"name": "sums", "from": past, "to": past})["ordered"]
        assert ended(served, key)["outcome"] == "cancelled"
        (key,) = talk.rpc("schedule.backfill", **{"name": "load", "from": older, "to": older})["ordered"]
        assert ended(served, key)["ended"] == 3, "a newer one has been run, and it is filled all the same"


SECONDS = """
timezone = "UTC"
[scripts.a]
target = "one"
every = "1s"
misfire = "all"
overlap = "buffer_all"
jobs = { instances = 2 }
[scripts.b]
target = "one"
depends_on = ["a"]
misfire = "all"
overlap = "buffer_all"
[scripts.c]
target = "one"
depends_on = ["b"]
misfire = "all"
overlap = "buffer_all"
jobs = { range = [1, 2] }
finish = "done"
"""


@pytest.mark.timeout(200)
def test_chains_of_scripts_keep_their_order_over_kills(tmp_path: Path) -> None:
    with staged(tmp_path, SECONDS) as served:
        for turn in range(1, 4):
            until(lambda: sum(key.endswith(".finish") for key in ran(served)) >= turn * 2, f"chain {turn}")  # noqa: B023
            os.kill(scheduler(served), signal.SIGKILL)
        until(lambda: sum(key.endswith(".finish") for key in ran(served)) >= 8, "two more")
        begun = ran(served)
        assert set(Counter(begun).values()) == {1}
        for finish in [key for key in begun if key.endswith(".finish")]:
            time = finish.partition("@")[2].removesuffix(".finish")
            places = [begun.index(f"{name}@{time}{n}") for name, n in (("a", ".1"), ("b", ""), ("c", ".0"))]
            assert places == sorted(places)
            assert max(places) < begun.index(finish)


BESIDE = """
[scripts.beside]
target = "waits"
jobs = { range = [1, 2] }
overlap = "allow"
[scripts.paused]
target = "one"
every = "1s"
overlap = "buffer_all"
jobs = { instances = 1 }
"""


def test_no_data_is_worked_on_twice_at_once_and_a_paused_script_begins_no_other(tmp_path: Path) -> None:
    with staged(tmp_path, BESIDE) as served:
        talk = served.talk()
        until(lambda: any(key.startswith("paused@") for key in ran(served)), "a generation by its time")
        talk.rpc("schedule.pause", name="paused")
        first, second = begin(talk, "beside"), begin(talk, "beside")
        until(lambda: talk.rpc("schedule.generation", generation=second)["stage"] == "jobs", "both at their jobs")
        until(lambda: {f"{first}.0", f"{first}.1"} <= set(ran(served)), "those of the first")
        assert error(talk, "status", key=f"{second}.0")["code"] == -32001, "the same data is not ordered"
        (served.app / "go").touch()
        assert [ended(served, key)["outcome"] for key in (first, second)] == ["ok", "ok"]
        for n in range(2):
            before, after = (talk.rpc("status", key=f"{key}.{n}") for key in (first, second))
            assert before["ended_at"] <= after["started_at"]
        by_hand = begin(talk, "paused")
        assert ended(served, by_hand)["outcome"] == "ok", "somebody may order one all the same"
        talk.rpc("schedule.resume", name="paused")
        count = len(ran(served))
        until(lambda: sum(key.startswith("paused@") for key in ran(served)[count:]) >= 2, "it to go on")


def test_the_pages_own_example_does_what_the_page_says(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "generations.md").read_text()
    files = re.findall(r"^```(?:python|toml)\n# ([\w./]+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["rocksyd.toml", "shop/jobs.py"]
    project = tmp_path / "project"
    (project / "shop" / "shop").mkdir(parents=True)
    (project / "rocksyd.toml").write_text(files[0][1])
    (project / "shop" / "shop" / "jobs.py").write_text(files[1][1])
    with Daemon(tmp_path / "daemon", config=for_tests(project / "rocksyd.toml")) as served:
        (project / "rocksyd.toml").write_text(f'listen = ["{served.address}"]\n{files[0][1]}')  # where its jobs look for it
        talk = served.talk()
        found = ended(served, begin(talk, "prices"))
        assert (found["outcome"], found["ended"]) == ("ok", 3)
        with served.client() as client:
            assert "".join(client.logs(f"{found['key']}.finish")) == "360 articles\n"
            assert "".join(client.logs(f"{found['key']}.1")) == "2 of 3: paris\n"
        assert ended(served, begin(talk, "index"))["ended"] == 64
