"""``concurrency``: ``async def`` jobs that wait share a worker, and each is a run as any other."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, until
from tests.files import lines

JOBS = """
import asyncio, logging, os, pathlib, sys
from rocksyd import current, job
from rocksyd.jobs import after_job, before_job

logging.basicConfig()
LOG = logging.getLogger("jobs")
here = set()
everybody = asyncio.Event()

@before_job
def begins():
    print("before", current().key)

@after_job
def ends():
    print("after", current().key)

@job
async def meets(number):
    here.add(current().key)
    if len(here) == number:
        everybody.set()
    await everybody.wait()
    return os.getpid()

@job
async def waits(path, value=None):
    with open(path + ".ran", "a") as file:
        file.write(f"{current().key} {os.getpid()}\\n")
    while not pathlib.Path(path).exists():
        await asyncio.sleep(0.01)
    return value

@job
async def prints(name, path):
    print(name, "one", current().key)
    await waits(path)
    print(name, "two", current().key, file=sys.stderr)
    await asyncio.to_thread(print, name, "three", current().key)
    return name

@job
async def prints_in_every_way(path):
    await waits(path)
    LOG.warning("logged by %s", current().key)
    await asyncio.create_task(says("in a task"))
    sys.stdout.buffer.write(f"bytes of {current().key}\\n".encode())
    process = await asyncio.create_subprocess_exec("sh", "-c", "echo nowhere; echo nowhere >&2")
    await process.wait()
    process = await asyncio.create_subprocess_exec("echo", "by a pipe", stdout=asyncio.subprocess.PIPE)
    print((await process.communicate())[0].decode(), end="")

async def says(text):
    print(text, current().key)

@job
async def ends_with(how):
    await asyncio.sleep(0)
    if how == "raises":
        raise ValueError("on purpose")
    if how == "exits":
        sys.exit(3)
    if how == "task":
        await asyncio.gather(asyncio.create_task(leaves()))
    return current().key

async def leaves():
    sys.exit(4)

@job
async def stubborn(path, deaf=True):
    pathlib.Path(path).touch()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("told", current().stopping)
            if not deaf:
                return "in order"

@job
async def answers(path):
    current().progress(1, 2, "half")
    current().finish(current().key)
    await waits(path)
    return "not this"

@job
def plain():
    return 1
"""
POOL = 'pm = "ondemand"\nidle_timeout = "1h"\nmax_workers = 1\nmax_jobs = 0\nconcurrency = 100\ngrace = "30s"'


def pool(*changes: str) -> dict[str, str]:
    lines = {line.split(" = ")[0]: line for line in (*POOL.splitlines(), *changes)}
    return {"pool": "\n".join(lines.values())}


def ended(talk: Conversation, key: str) -> dict[str, Any]:
    record: dict[str, Any] = talk.rpc("wait", key=key)
    return record


def run(talk: Conversation, target: str, *params: object, key: str, **options: object) -> None:
    talk.rpc("run", target=target, params=list(params), key=key, **options)


def started(path: Path, *keys: str) -> None:
    until(lambda: {line.split()[0] for line in lines(Path(f"{path}.ran"))} >= set(keys), "runs that wait")


def processes(talk: Conversation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = talk.rpc("pools")[0]["processes"]
    return found


def test_a_hundred_jobs_that_wait_for_each_other_meet_in_one_process(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts=pool()) as daemon:
        talk = daemon.talk()
        for number in range(100):
            run(talk, "meets", 100, key=f"r{number}")
        assert {ended(talk, f"r{number}")["outcome"] for number in range(100)} == {"ok"}
        assert len({ended(talk, f"r{number}")["result"] for number in range(100)}) == 1
        (process,) = processes(talk)
        assert (process["stage"], process["jobs"], process["running"]) == ("idle", 100, 0)


def test_results_and_output_of_runs_that_share_a_process_are_their_own(tmp_path: Path) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts=pool()) as daemon:
        talk = daemon.talk()
        for name in ("a", "b"):
            run(talk, "prints", name, str(held), key=name)
        started(held, "a", "b")
        (process,) = processes(talk)
        assert (process["stage"], process["running"]) == ("running", 2)
        held.touch()
        for name in ("a", "b"):
            record = ended(talk, name)
            assert (record["outcome"], record["result"], record["cpu"]) == ("ok", name, 0.0)
            lines = Path(record["log"]).read_text().splitlines()
            assert lines == [f"before {name}", *(f"{name} {word} {name}" for word in ("one", "two", "three")), f"after {name}"]


def test_what_a_run_logs_and_its_tasks_and_subprocesses_print_is_where_the_manual_says(tmp_path: Path) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts=pool()) as daemon:
        talk = daemon.talk()
        for key in ("a", "b"):
            run(talk, "prints_in_every_way", str(held), key=key)
        started(held, "a", "b")
        held.touch()
        for key in ("a", "b"):
            record = ended(talk, key)
            lines = Path(record["log"]).read_text().splitlines()
            said = [f"WARNING:jobs:logged by {key}", f"in a task {key}", f"bytes of {key}", "by a pipe"]
            assert (record["outcome"], lines) == ("ok", [f"before {key}", *said, f"after {key}"])
        assert "nowhere" not in daemon.log()


def test_stopping_the_daemon_cancels_runs_that_share_a_worker(tmp_path: Path) -> None:
    held = tmp_path / "never"
    with Daemon(tmp_path, JOBS, parts=pool()) as daemon:
        talk = daemon.talk()
        for key in ("a", "b"):
            run(talk, "waits", str(held), key=key)
        started(held, "a", "b")
        daemon.stop()
        daemon.start()
        talk = daemon.talk()
        assert [(ended(talk, key)["outcome"], ended(talk, key)["signal"]) for key in ("a", "b")] == [("cancelled", 15)] * 2


def test_how_each_run_ends_is_its_own_affair(tmp_path: Path) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts=pool()) as daemon:
        talk = daemon.talk()
        run(talk, "waits", str(held), 7, key="waits")
        for how in ("raises", "exits", "task", "returns"):
            run(talk, "ends_with", how, key=how)
        records = {how: ended(talk, how) for how in ("raises", "exits", "task", "returns")}
        assert [(r["outcome"], r["retcode"]) for r in records.values()] == [
            ("failed", 1),
            ("failed", 3),
            ("failed", 4),
            ("ok", 0),
        ]
        assert (records["raises"]["error"]["type"], records["raises"]["error"]["message"]) == ("ValueError", "on purpose")
        assert "rocksyd/worker" not in records["raises"]["error"]["traceback"]
        assert "ValueError: on purpose" in Path(records["raises"]["log"]).read_text()
        assert records["returns"]["result"] == "returns"
        held.touch()
        assert ended(talk, "waits")["result"] == 7


def test_one_run_is_cancelled_or_timed_out_and_the_others_go_on(tmp_path: Path) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts=pool()) as daemon:
        talk = daemon.talk()
        for key in ("stays", "goes"):
            run(talk, "waits", str(held), key, key=key)
        run(talk, "stubborn", str(tmp_path / "s"), False, key="tidy")
        started(held, "stays", "goes")
        until((tmp_path / "s").exists, "the tidy one")
        talk.rpc("terminate", key="goes")
        talk.rpc("terminate", key="tidy")
        gone, tidy = ended(talk, "goes"), ended(talk, "tidy")
        assert (gone["outcome"], gone["retcode"], gone["signal"]) == ("cancelled", 143, 15)
        assert (tidy["outcome"], tidy["retcode"], tidy["signal"]) == ("cancelled", 0, None)
        assert "told True" in Path(tidy["log"]).read_text()
        run(talk, "waits", str(tmp_path / "never"), key="late", timeout="100ms")
        late = ended(talk, "late")
        assert (late["outcome"], late["signal"], late["error"]["type"]) == ("timeout", 15, "JobTimeout")
        order = {"key": "stays", "signal": "USR1"}
        reply = talk.ask(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "terminate", "params": order}))
        assert "shares its process" in reply["error"]["message"]
        held.touch()
        assert ended(talk, "stays")["result"] == "stays"


def test_a_run_that_does_not_obey_is_killed_with_the_worker_and_the_others_say_why(tmp_path: Path) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts=pool('grace = "200ms"')) as daemon:
        talk = daemon.talk()
        run(talk, "waits", str(held), key="bystander")
        run(talk, "waits", str(held), 9, key="again", retries=1)
        run(talk, "stubborn", str(tmp_path / "s"), key="deaf")
        started(held, "bystander", "again")
        until((tmp_path / "s").exists, "the stubborn one")
        talk.rpc("terminate", key="deaf")
        deaf, bystander = ended(talk, "deaf"), ended(talk, "bystander")
        assert (deaf["outcome"], deaf["signal"]) == ("cancelled", 9)
        assert (bystander["outcome"], bystander["signal"], bystander["error"]["type"]) == ("killed", 9, "WorkerDied")
        assert "because run 'deaf' had not ended within its grace" in bystander["error"]["message"]
        held.touch()
        again = ended(talk, "again")
        assert (again["outcome"], again["attempt"], again["result"]) == ("ok", 2, 9)


def test_a_run_answers_early_and_tells_how_far_it_is(tmp_path: Path) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts=pool()) as daemon:
        talk = daemon.talk()
        for key in ("x", "y"):
            order = {"target": "answers", "params": [str(held)], "key": key}
            reply = talk.ask(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "call", "params": order}))
            assert reply["result"]["result"] == key
        assert talk.rpc("status", key="x")["progress"] == {"done": 1, "total": 2, "note": "half"}
        held.touch()
        assert [(ended(talk, key)["outcome"], ended(talk, key)["result"]) for key in ("x", "y")] == [("ok", "x"), ("ok", "y")]


@pytest.mark.parametrize("how", ["restart", "reload"])
def test_p2_newer_code_takes_over_while_runs_share_a_worker_and_none_is_lost(tmp_path: Path, how: str) -> None:
    held, keys = tmp_path / "go", [f"k{number}" for number in range(60)]
    with Daemon(tmp_path, JOBS, parts=pool()) as daemon:
        talk = daemon.talk()
        for key in keys:
            run(talk, "waits", str(held), key, key=key)
        started(held, *keys)
        assert "error" not in talk.ask(how) or how == "restart"
        run(talk, "waits", str(held), "new", key="new")  # the old worker gets no more, and does not hold it up
        started(held, "new")
        held.touch()
        for key in [*keys, "new"]:
            assert (ended(talk, key)["outcome"], ended(talk, key)["result"]) == ("ok", key)
        ran = [line.split() for line in lines(Path(f"{held}.ran"))]
        assert sorted(key for key, _ in ran) == sorted([*keys, "new"])
        assert len({pid for _, pid in ran}) == 2


def test_p11_the_master_is_killed_while_runs_share_a_worker_none_is_lost_and_none_runs_twice(tmp_path: Path) -> None:
    held, keys = tmp_path / "go", [f"k{number}" for number in range(40)]
    with Daemon(tmp_path, JOBS, parts=pool()) as daemon:
        talk = daemon.talk()
        for key in keys:
            run(talk, "waits", str(held), key, key=key)
        started(held, *keys[:10])  # some, perhaps, are only now on their way
        master = daemon.master_pid
        os.kill(master, signal.SIGKILL)
        until(lambda: master not in daemon.children("rocksyd: master"), "the end of the master")
        talk = daemon.talk()
        run(talk, "waits", str(held), "new", key="new")
        started(held, *keys, "new")  # in the same worker: it has said what it holds
        talk.rpc("terminate", key="k0")
        assert ended(talk, "k0")["outcome"] == "cancelled"
        held.touch()
        for key in [*keys[1:], "new"]:
            assert (ended(talk, key)["outcome"], ended(talk, key)["result"]) == ("ok", key)
        ran = [line.split() for line in lines(Path(f"{held}.ran"))]
        assert sorted(key for key, _ in ran) == sorted([*keys, "new"])
        assert len({pid for _, pid in ran}) == 1


def test_a_worker_that_has_done_its_share_gets_no_more_and_leaves_after_the_last(tmp_path: Path) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts=pool("max_jobs = 2", "max_jobs_jitter = 0")) as daemon:
        talk = daemon.talk()
        run(talk, "waits", str(held), key="long")
        started(held, "long")
        (old,) = (process["worker"] for process in processes(talk))
        for key in ("one", "two"):
            run(talk, "ends_with", "returns", key=key)
            assert ended(talk, key)["outcome"] == "ok"
        until(lambda: [p for p in processes(talk) if p["worker"] != old and p["stage"] == "idle"], "the replacement")
        run(talk, "waits", str(held), key="next")  # max_workers = 1, and the one that drains does not count
        started(held, "next")
        first, second = (line.split()[1] for line in lines(Path(f"{held}.ran")))
        assert first != second
        held.touch()
        assert {ended(talk, key)["outcome"] for key in ("long", "next")} == {"ok"}
        until(lambda: old not in {process["worker"] for process in processes(talk)}, "the end of the first worker")


def test_a_worker_that_is_killed_takes_its_runs_with_it_and_those_that_may_are_tried_again(tmp_path: Path) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts=pool()) as daemon:
        talk = daemon.talk()
        run(talk, "waits", str(held), key="once")
        run(talk, "waits", str(held), 5, key="again", retries=1)
        started(held, "once", "again")
        (process,) = processes(talk)
        os.kill(process["pid"], signal.SIGKILL)
        once = ended(talk, "once")
        assert (once["outcome"], once["signal"], once["error"]["type"]) == ("killed", 9, "WorkerDied")
        held.touch()
        again = ended(talk, "again")
        assert (again["outcome"], again["attempt"], again["result"]) == ("ok", 2, 5)


def test_what_cannot_share_a_process_is_refused_with_cause_and_cure(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts=pool()) as daemon:
        talk = daemon.talk()
        run(talk, "plain", key="plain")
        error = ended(talk, "plain")["error"]
        assert error["type"] == "JobError"
        assert "plain function" in error["message"]
        assert "concurrency = 1" in error["message"]
        order = {"target": "ends_with", "params": ["returns"], "env": {"A": "b"}}
        reply = talk.ask(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "run", "params": order}))
        assert "cannot share a process" in reply["error"]["message"]
