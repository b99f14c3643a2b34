"""A pool whose workers are forked from a warm one: when it pays, when it does not, and whoever dies meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon, until
from rocksyd.testing.daemon import Conversation, command_line, descendants
from tests.faults.crowd import zygotes
from tests.files import wait_lines

JOBS = """
import os, signal, threading, time
from pathlib import Path
from rocksyd import job

cache = {}

@job
def work(mode="shared"):
    key = "shared" if mode == "shared" else os.getpid()
    if key not in cache:
        cache.clear()
        cache[key] = [os.getpid(), os.urandom(16 << 20)]
        if mode == "thread":
            threading.Thread(target=time.sleep, args=(3600,), daemon=True, name="left behind").start()
    time.sleep(0.01)
    return [cache[key][0], os.getpid(), os.getppid()]

@job
def holds(began, go):
    Path(began).write_text(f"{os.getpid()} {os.getppid()}\\n")
    while not os.path.exists(go):
        time.sleep(0.01)
    return "held"
"""
POOL = """pm = "static"
max_workers = 3
max_jobs = 0
refork_after = 3
grace = "30s"
"""
Seen = list[list[int]]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        yield daemon


def work(daemon: Daemon, mode: str = "shared", runs: int = 9) -> Seen:
    """Runs side by side; what each has seen: who made its cache, who it was, who had forked it."""
    talk = daemon.talk()
    talk.send(
        *(f'{{"jsonrpc":"2.0","id":{n},"method":"call","params":{{"target":"work","params":["{mode}"]}}}}' for n in range(runs))
    )

    answers = [json.loads(talk.line()) for _ in range(runs)]
    talk.close()
    return [answer["result"]["result"] for answer in answers]


def parents(talk: Conversation) -> set[int]:
    """Who has forked the workers that there are now."""
    found = set()
    for process in talk.rpc("pools")[0]["processes"]:
        with contextlib.suppress(FileNotFoundError):
            found.add(int(Path(f"/proc/{process['pid']}/stat").read_text().rpartition(")")[2].split()[1]))
    return found


def template_pids(daemon: Daemon) -> list[int]:
    return [pid for pid in descendants(daemon.pid) if command_line(pid).endswith("(template)")]


def until_it_pays(daemon: Daemon) -> int:
    """Work until the pool has a template that has been found to pay; its PID."""
    until(lambda: work(daemon) and "saves" in daemon.log(), "a template that saves memory")
    (pid,) = template_pids(daemon)
    return pid


def held(daemon: Daemon, talk: Any, key: str = "held") -> tuple[Path, int]:
    """A run that goes on until the file is there; its worker's parent."""
    began, go = daemon.folder / f"{key}-began", daemon.folder / f"{key}-go"
    talk.rpc("run", target="holds", params=[str(began), str(go)], key=key)
    return go, int(wait_lines(began)[0].split()[1])


def test_workers_are_forked_from_a_warm_one_when_that_saves_memory(daemon: Daemon) -> None:
    template = until_it_pays(daemon)
    until(lambda: {parent for _, _, parent in work(daemon)} == {template}, "only workers of the template")
    assert {maker for maker, _, _ in work(daemon)} == {template}
    assert len({pid for _, pid, _ in work(daemon, runs=30)}) > 1
    zygotes = daemon.talk().rpc("health")["zygotes"]
    assert [zygote["pid"] for name, zygote in zygotes.items() if "#" in name] == [template]
    assert "each for themselves instead of" in daemon.log()


def test_a_template_that_saves_nothing_is_given_up(daemon: Daemon) -> None:
    until(lambda: work(daemon, "each") and " costs " in daemon.log(), "a template that was measured")
    until(lambda: work(daemon, "each") and not template_pids(daemon), "the template's end")
    (zygote,) = zygotes(daemon)
    until(lambda: {parent for _, _, parent in work(daemon, "each")} == {zygote}, "only workers of the zygote")


def test_a_worker_with_a_thread_never_becomes_one(daemon: Daemon) -> None:
    until(lambda: work(daemon, "thread") and "a thread runs: 'left behind'" in daemon.log(), "the reason in the log")
    until(lambda: not template_pids(daemon), "the worker's end")
    (zygote,) = zygotes(daemon)
    assert {parent for _, _, parent in work(daemon)} == {zygote}


def test_the_death_of_a_template_is_not_noticed_by_jobs(daemon: Daemon) -> None:
    talk = daemon.talk()
    template = until_it_pays(daemon)
    until(lambda: {parent for _, _, parent in work(daemon)} == {template}, "only workers of the template")
    go, parent = held(daemon, talk)
    assert parent == template
    os.kill(template, signal.SIGKILL)
    (zygote,) = [pid for pid in zygotes(daemon) if pid != template]
    until(lambda: parents(talk) & {zygote}, "a worker of the zygote")
    assert len(work(daemon)) == 9
    go.touch()
    assert talk.rpc("wait", key="held")["result"] == "held"
    assert "workers are forked from the zygote: the template of app ended" in daemon.log()


def test_p11_a_template_and_its_jobs_outlive_the_master(daemon: Daemon) -> None:
    template = until_it_pays(daemon)
    until(lambda: {parent for _, _, parent in work(daemon)} == {template}, "only workers of the template")
    talk = daemon.talk()
    go, parent = held(daemon, talk)
    held(daemon, talk, "stuck")
    daemon.wait_shelved(1)
    os.kill(daemon.master_pid, signal.SIGKILL)
    later = daemon.talk()
    assert later.rpc("status", key="held")["state"] == "running"
    later.rpc("terminate", key="stuck")
    assert later.rpc("wait", key="stuck")["outcome"] == "cancelled"
    go.touch()
    assert later.rpc("wait", key="held")["result"] == "held"
    assert parent == template
    assert template in template_pids(daemon)
    until(lambda: {parent for _, _, parent in work(daemon)} == {template}, "workers of the template")


def test_p2_a_job_of_a_template_outlives_a_restart_and_the_template_leaves_after_it(daemon: Daemon) -> None:
    template = until_it_pays(daemon)
    until(lambda: {parent for _, _, parent in work(daemon)} == {template}, "only workers of the template")
    (zygote,) = [pid for pid in zygotes(daemon) if pid != template]
    talk = daemon.talk()
    go, parent = held(daemon, talk)
    assert talk.ask("restart") == {"error_text": "Restarted successfully"}
    assert template in template_pids(daemon)
    assert template == parent
    assert template not in {parent for _, _, parent in work(daemon)}
    go.touch()
    assert talk.rpc("wait", key="held")["result"] == "held"
    until(lambda: template not in descendants(daemon.pid), "the template's end")
    until(lambda: zygote not in descendants(daemon.pid), "the old zygote's end")


def test_p2_the_death_of_the_zygote_behind_a_template_loses_no_job(daemon: Daemon) -> None:
    template = until_it_pays(daemon)
    until(lambda: {parent for _, _, parent in work(daemon)} == {template}, "only workers of the template")
    talk = daemon.talk()
    go, _ = held(daemon, talk)
    (zygote,) = [pid for pid in zygotes(daemon) if pid != template]
    os.kill(zygote, signal.SIGKILL)
    until(lambda: template not in {parent for _, _, parent in work(daemon)}, "workers of a new zygote")
    go.touch()
    assert talk.rpc("wait", key="held")["result"] == "held"
    until(lambda: template not in descendants(daemon.pid), "the template's end")
