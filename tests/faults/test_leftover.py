"""What a run leaves in its process group at its normal end is ended, or lives on where the settings say so, and is shown."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from tests.faults.crowd import ended
from tests.files import lines
from tests.process.test_cli import rocksyd

JOBS = """
import os, signal, subprocess, sys, time
from rocksyd import job

def left(*more):
    code = "import os, time; open('left', 'a').write(f'{os.getpid()}\\\\n'); time.sleep(1000)"
    child = subprocess.Popen([sys.executable, "-c", code], **dict(more))
    while not os.path.exists("left") or not open("left").read().endswith(f"{child.pid}\\n"):
        time.sleep(0.01)
    child.returncode = 0  # no complaint that it was not waited for

@job
def leaves():
    left()

@job(leftover="keep")
def keeps():
    left()

@job
def leaves_a_session():
    left(("start_new_session", True))

@job(leftover="kill", grace="200ms")
def leaves_a_deaf_one():
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open("left", "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(1000)
    while not os.path.exists("left") or not open("left").read():
        time.sleep(0.01)

@job
def becomes_another_and_leaves():
    os.execv("/bin/sh", ["sh", "-c", "sleep 1000 & echo $! > left"])

@job
def nothing():
    return os.getpid()
"""


def left_by(daemon: Daemon) -> list[int]:
    return [int(line) for line in lines(daemon.app / "left")]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@pytest.fixture
def pool() -> str:
    return 'pm = "static"\nmax_workers = 2'


@pytest.fixture
def daemon(tmp_path: Path, pool: str) -> Iterator[Daemon]:
    with Daemon(tmp_path, JOBS, parts={"pool": pool}) as made:
        yield made
        for pid in left_by(made):
            if lives(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("name", ["leaves", "leaves_a_deaf_one", "becomes_another_and_leaves"])
def test_what_a_run_leaves_in_its_group_is_ended_with_its_process(daemon: Daemon, name: str) -> None:
    with daemon.client() as client:
        client.run(name, key="1")
        assert ended(daemon, "1")["outcome"] == "ok"
        (pid,) = left_by(daemon)
        until(lambda: not lives(pid), "what was left to end")
        assert f"has left {pid} (" in daemon.log()
        assert client.call("nothing"), "and nobody else was meant"


def test_what_is_to_be_kept_lives_on_and_is_shown(daemon: Daemon) -> None:
    with daemon.client() as client:
        for number, name in enumerate(("keeps", "leaves_a_session")):
            client.run(name, key=str(number))
            assert ended(daemon, str(number))["outcome"] == "ok"
        kept, of_a_session = left_by(daemon)
        until(lambda: {p["pid"] for p in client.left_behind()} == {kept, of_a_session}, "both to be their run's no longer")
        assert client.call("nothing"), "the zygote has seen to their worker"
        assert lives(kept)
        assert lives(of_a_session)
        shown = {process["pid"]: (process["key"], process["name"]) for process in client.left_behind()}
        assert {key for key, _ in shown.values()} == {"0", "1"}
        assert all(name.startswith("python") for _, name in shown.values())
        reason = client.why("0")["reasons"][-1]
        assert reason["code"] == "left_behind"
        assert f"process {kept} (python" in reason["text"]
        text = rocksyd(daemon.address, "ps").stdout
        assert "LEFT BEHIND BY" in text
        assert str(kept) in text
        assert str(of_a_session) in text
        daemon.restart()
        assert {process["pid"] for process in client.left_behind()} == {kept, of_a_session}
        os.kill(kept, signal.SIGKILL)
        until(lambda: {process["pid"] for process in client.left_behind()} == {of_a_session}, "one of them to be gone")


@pytest.mark.parametrize("pool", ['leftover = "keep"'])
def test_the_pool_says_it_for_its_runs_and_the_target_wins(daemon: Daemon) -> None:
    with daemon.client() as client:
        client.run("leaves", key="1")
        ended(daemon, "1")
        (kept,) = left_by(daemon)
        until(client.left_behind, "the worker to be gone")
        (daemon.app / "left").unlink()
        client.run("leaves_a_deaf_one", key="2")
        ended(daemon, "2")
        (pid,) = left_by(daemon)
        until(lambda: not lives(pid), "the deaf one to end")
        assert lives(kept)
        os.kill(kept, signal.SIGKILL)


@pytest.mark.parametrize("pool", ["max_jobs = 2\nmax_workers = 1\nidle_timeout = '1h'"])
def test_what_a_run_of_a_reused_worker_leaves_lives_as_long_as_its_worker(daemon: Daemon) -> None:
    with daemon.client() as client:
        client.run("leaves", key="1")
        ended(daemon, "1")
        (pid,) = left_by(daemon)
        assert lives(pid)
        worker = client.call("nothing")
        until(lambda: not lives(worker), "the worker to leave after its second job")
        until(lambda: not lives(pid), "what it had left to end")


def test_a_script_leaves_what_a_shell_would_leave(daemon: Daemon) -> None:
    (daemon.app / "script.py").write_text(
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '1000'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "open('left', 'w').write(f'{child.pid}\\n')\n"
        "child.returncode = 0\n"
    )
    assert rocksyd(daemon.address, "exec", "--", "script.py", cwd=daemon.app).returncode == 0
    (pid,) = left_by(daemon)
    with daemon.client() as client:
        until(lambda: [process["pid"] for process in client.left_behind()] == [pid], "the worker to be gone")
        client.call("nothing")
        assert lives(pid)
