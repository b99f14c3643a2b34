"""The command line against the daemon itself, as users type it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksyd.testing.daemon import until
from tests.process.test_cli import command, environment, rocksyd

JOBS = '''
import os
from rocksyd import job

@job
def hello(name="nobody"):
    print("hello", name)
    return {"greeted": name}

@job
def greet(name: str, times: int = 1):
    return [name] * times

@job
def bad():
    raise ValueError("no orders")

@job
def gate(path):
    """Prints a line, and another one when somebody has opened the gate (a FIFO)."""
    print("before", flush=True)
    with open(path):
        pass
    print("after")
'''


@pytest.fixture
def service() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "jobs.py").write_text(JOBS)
        (folder / "rocksyd.toml").write_text(
            '[apps.demo]\npath = "."\njobs = ["jobs"]\n[apps.demo.pool]\npm = "ondemand"\nmax_workers = 4\n'
        )
        started = rocksyd(None, "serve", "--daemon", "--pid-file", "pid", "--log-file", "log", cwd=folder)
        assert started.returncode == 0, started.stderr
        pid = int((folder / "pid").read_text())
        try:
            yield folder
        finally:
            stopped = rocksyd(None, "stop", cwd=folder)
            if stopped.returncode:
                os.kill(pid, signal.SIGTERM)
        assert stopped.returncode == 0, stopped.stderr + (folder / "log").read_text()
        # `stop` returns when the service's process is gone, and that removes its file last. (Not the PID: whoever is init here
        # may take its time to reap.)
        assert not (folder / "pid").exists()


def test_run_check_logs_ps_free(service: Path) -> None:
    done = rocksyd(None, "run", "hello", "name=me", "--key", "h", "--wait", cwd=service)
    assert (done.returncode, done.stdout, done.stderr) == (0, 'h\n{"greeted": "me"}\n', "")
    assert rocksyd(None, "check", "h", cwd=service).stdout.startswith("h: ended ok, retcode 0, ")
    assert json.loads(rocksyd(None, "check", "h", "--json", cwd=service).stdout)["result"] == {"greeted": "me"}
    assert rocksyd(None, "logs", "h", cwd=service).stdout == "hello me\n"
    assert "h " not in rocksyd(None, "ps", cwd=service).stdout
    assert "\nh " in rocksyd(None, "ps", "-a", cwd=service).stdout
    assert rocksyd(None, "free", "h", cwd=service).returncode == 0
    assert rocksyd(None, "check", "h", cwd=service).returncode == 1


def test_a_failure_is_shown_and_is_the_exit_status(service: Path) -> None:
    done = rocksyd(None, "run", "bad", "--follow", cwd=service)
    assert done.returncode == 1
    assert "ValueError: no orders" in done.stdout
    assert "failed: ValueError: no orders" in done.stderr


@pytest.mark.parametrize("what", ["restart", "crash"])
def test_following_and_waiting_go_on_over_a_restart_and_a_crash(service: Path, what: str) -> None:
    gate = service / f"gate-{what}"
    os.mkfifo(gate)
    follow = subprocess.Popen(
        command("run", "gate", f"path={gate}", "--key", what, "--follow"),
        env=environment(), cwd=service, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    with follow:
        assert follow.stdout is not None
        assert follow.stdout.readline() == "before\n"
        with subprocess.Popen(command("wait", what), env=environment(), cwd=service, stdout=subprocess.PIPE, text=True) as wait:
            if what == "restart":
                assert rocksyd(None, "restart", cwd=service).stdout.startswith("restarted: generation ")
            else:
                os.kill(json.loads(rocksyd(None, "stats", "--json", cwd=service).stdout)["master_pid"], signal.SIGKILL)
            with open(gate, "w"):
                pass
            assert follow.communicate(timeout=60)[0] == "after\n"
            assert wait.communicate(timeout=60)[0].startswith(f"{what}: ended ok")
    assert (follow.returncode, wait.returncode) == (0, 0)


def test_numbers(service: Path) -> None:
    assert "runs_submitted" in rocksyd(None, "stats", cwd=service).stdout
    assert rocksyd(None, "pools", cwd=service).stdout.splitlines()[1].startswith("demo")


def test_after_a_rotation_keeper_and_master_write_to_the_new_log(service: Path) -> None:
    (service / "log").rename(service / "log.1")
    os.kill(int((service / "pid").read_text()), signal.SIGUSR1)
    until((service / "log").exists, "a new log")
    stats = json.loads(rocksyd(None, "stats", "--json", cwd=service).stdout)
    for pid in (stats["pid"], stats["master_pid"]):
        until(lambda pid=pid: os.path.samefile(f"/proc/{pid}/fd/2", service / "log"), f"process {pid} at the new log")


def test_what_was_typed_is_text_where_the_job_declares_text(service: Path) -> None:
    for words, greeted in [(("name=5", "times=2"), ["5", "5"]), (("name=null",), ["null"]), (('name="Ann"',), ["Ann"])]:
        done = rocksyd(None, "run", "greet", *words, "--wait", cwd=service)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.partition("\n")[2]) == greeted
    refused = rocksyd(None, "run", "greet", "name=Ann", "times=two", "--wait", cwd=service)
    assert "parameter 'times' must be a whole number" in refused.stderr


def test_a_result_that_was_too_long_to_be_kept_is_told(service: Path) -> None:
    done = rocksyd(None, "run", "greet", "name=a", "times=300000", "--wait", cwd=service)
    assert done.returncode == 0, done.stderr
    assert "the result was dropped: it is 1200001 bytes of JSON" in done.stderr
