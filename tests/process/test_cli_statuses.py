"""Every command against a real daemon: its exit status, what it prints, and that errors say what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until
from tests.process.test_cli import rocksyd

JOBS = """
import sys, time
from rocksyd import job

@job
def hello(name="nobody"):
    print("hello", name)
    return {"greeted": name}

@job
def bad():
    raise ValueError("no orders")

@job
def leave(status):
    sys.exit(status)

@job
def sleep():
    time.sleep(1000)

@job
def heard():
    import signal
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(42))
    print("ready", flush=True)
    time.sleep(1000)
"""
ONE_WORKER = 'pm = "static"\nmax_workers = 1\nmax_queue = 1\ngrace = "30s"'

# what is typed, exit status, what standard output and standard error match from the start (in this order, with one daemon)
Row = tuple[str, int, str, str]
COMMANDS: list[Row] = [
    ("run hello name=me --key h --wait", 0, r"h\n", "$"),
    ("run hello name=me --key h", 0, r"h\n$", r"rocksyd: h was ordered before \(ok\): nothing new runs; .*`rocksyd retry h`"),
    ("run hello name=you --key h", 1, "$", r"rocksyd: key 'h' is in use by another run \(target 'hello'\): free that run first"),
    ("run hello --params [1,2,3] --wait", 2, "$", r"rocksyd: .*3 parameters by position, and it takes at most 1"),
    ("run leave status=7 --key l --wait", 7, r"l\n$", r"rocksyd: l failed: exit status 7\n$"),
    ("run leave status=0 --wait", 0, r"\w+\n$", "$"),
    (
        "run bad --key b --follow",
        1,
        r"Traceback .*ValueError: no orders\n$",
        r"rocksyd: run b\nrocksyd: b failed: ValueError: no orders\n$",
    ),
    ("run sleep --timeout 200ms --wait --key t", 143, r"t\n$", r"rocksyd: t timeout: "),
    ("run nothing", 1, "$", r"rocksyd: no job is called 'nothing': jobs there are: bad, heard, hello, leave, sleep\n$"),
    ("run os:system", 1, "$", r"rocksyd: target 'os:system' is not a job, .*: add it to `allow`"),
    ("run hello --app other", 1, "$", r"rocksyd: no application is called 'other' \(there are: app\)\n$"),
    ("run hello --params {bad", 2, "$", r"usage: .*not JSON"),
    ("run hello name", 2, "$", r"usage: .*expected NAME=VALUE"),
    ("run", 2, "$", "usage: .*TARGET"),
    ("check h", 0, r"h: ended ok, retcode 0, \d", "$"),
    ("check l", 0, r"l: ended failed, retcode 7, \d", "$"),
    ("check h --json", 0, r'{"key": "h", .*"result": {"greeted": "me"}.*}\n$', "$"),
    ("check nobody", 1, "$", r"rocksyd: no run 'nobody' here: .*`rocksyd ps -a` lists what there is\n$"),
    ("wait h l b", 7, r"h: ended ok.*l: ended failed.*b: ended failed", "$"),
    ("wait h", 0, "h: ended ok", "$"),
    ("wait nobody", 1, "$", "rocksyd: no run 'nobody' here"),
    ("logs h", 0, r"hello me\n$", "$"),
    ("logs h -f", 0, r"hello me\n$", "$"),
    ("logs h --json", 0, r'{"key": "h", "text": "hello me\\n"}\n$', "$"),
    ("logs nobody", 1, "$", "rocksyd: no run 'nobody' here"),
    ("kill h", 1, "$", r"rocksyd: run 'h' has ended already"),
    ("kill h --signal NONSENSE", 2, "$", r"usage: .*expected a signal such as TERM, KILL or 15"),
    ("kill nobody", 1, "$", "rocksyd: no run 'nobody' here"),
    ("retry l", 0, r"l\n$", "$"),
    ("wait l", 7, "l: ended failed, retcode 7, attempt 2", "$"),
    ("retry nobody", 1, "$", "rocksyd: no run 'nobody' here"),
    ("run sleep --key s", 0, "s\n$", "$"),
    ("wait s --timeout 100ms", 124, "$", r"rocksyd: not ended within 100ms: it goes on"),
    ("free s", 1, "$", r"rocksyd: run 's' has not ended: terminate it first, or wait\n$"),
    ("retry s", 1, "$", r"rocksyd: run 's' has not ended: only an ended run can be retried\n$"),
    ("run sleep --key w", 0, "w\n$", "$"),
    ("run sleep --key x", 75, "$", r"rocksyd: 1 runs wait for pool 'app' already \(max_queue = 1\): try again later"),
    ("kill w --signal USR1", 1, "$", r"rocksyd: run 'w' has not started: there is nothing to send signal 10 to"),
    ("ps", 0, r"KEY +APP +TARGET +STATE .*\ns +app .* running .*\nw +app .* waiting [^\n]*\n$", "$"),
    ("ps -a --limit 3", 0, r"KEY .*\ns .*\nw .*\nl [^\n]*\n$", "$"),
    ("ps --state ended --app app --json", 0, r'\[{"key": "l", ', "$"),
    ("ps --state nonsense", 2, "$", "usage: .*invalid choice"),
    ("kill w", 0, "$", "$"),
    ("wait w", 143, r"w: ended cancelled, retcode 143", "$"),
    ("kill s", 0, "$", "$"),
    ("wait s --timeout 20s", 143, r"s: ended cancelled, signal TERM \(15\), retcode 143", "$"),
    ("free h", 0, "$", "$"),
    ("free h", 1, "$", "rocksyd: no run 'h' here"),
    ("stats", 0, r".*runs_submitted +\d", "$"),
    ("pools", 0, r"POOL .*WORKERS.*\napp +static ", "$"),
    ("services", 0, "no application has a service\n$", "$"),
    ("services --json", 0, r"\[\]\n$", "$"),
    ("pools --json", 0, r'\[{"pool": "app", ', "$"),
    (
        "health",
        0,
        r"healthy, rocksyd \d[^\n]*, generation 1\n(?:(?:- |  )[^\n]*\n)*\n?"  # of the machine there may be warnings
        r"listens at unix://[^\n]*\n.*\nZYGOTE .*\napp@1 +ready +\d+ ",
        "$",
    ),
    ("health --json", 0, r'{"ok": true, "problems": \[\], ', "$"),
    ("reload", 0, r"reloaded: generation 2\n$", "$"),
    ("restart --json", 0, r'{"generation": 3}\n$', "$"),
    ("restart now", 2, "$", "usage: .*unrecognized arguments: now"),
    ("nonsense", 2, "$", "usage: .*invalid choice: 'nonsense'"),
    ("--version", 0, r"rocksyd \d", "$"),
    ("drain", 0, r"drained: generation 3\n$", "$"),
    ("health", 1, r"not healthy, [^\n]*\n- draining\n  no more runs are taken; [^\n]*\n(?:(?:- |  )[^\n]*\n)*\nlistens at ", "$"),
    ("health --json", 1, r'{"ok": false, "problems": \["draining"\], "advice": \["no more runs', "$"),
    ("run hello", 1, "$", r"rocksyd: the daemon is draining and takes no new runs: submit it again"),
    ("stop", 0, "$", "$"),
    ("check h", 69, "$", r"rocksyd: no daemon answers at unix://.*: start one with `rocksyd serve"),
    ("restart", 69, "$", "rocksyd: no daemon answers"),
    ("health", 69, "$", "rocksyd: no daemon answers"),
    ("run hello", 69, "$", "rocksyd: no daemon answers"),
]


@pytest.mark.long
def test_every_command_ends_with_the_status_that_is_promised_and_says_why(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": ONE_WORKER}) as daemon:
        wrong = []
        for line, status, out, err in COMMANDS:
            if line == "run sleep --key w":
                until(lambda: daemon.talk().rpc("status", key="s")["state"] == "running", "the run before it has started")
            done = rocksyd(daemon.address, *line.split())
            fits = done.returncode == status and re.match(out, done.stdout, re.DOTALL) and re.match(err, done.stderr, re.DOTALL)
            if not fits or "Traceback" in done.stderr:
                wrong.append((line, done.returncode, done.stdout, done.stderr))
        assert wrong == []
        daemon.wait(0)


def test_kill_with_a_signal_delivers_it_and_leaves_the_rest_to_the_job(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        assert rocksyd(daemon.address, "run", "heard", "--key", "1").returncode == 0
        until(lambda: daemon.talk().rpc("logs", key="1")["text"] == "ready\n", "the job is ready")
        assert rocksyd(daemon.address, "kill", "1", "--signal", "usr1").returncode == 0
        assert rocksyd(daemon.address, "wait", "1").returncode == 42


@pytest.mark.parametrize("order", ["restart", "reload"])
def test_a_failed_order_exits_with_1_and_the_reason(tmp_path: Path, order: str) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        (daemon.app / "jobs.py").write_text("no python")
        done = rocksyd(daemon.address, order)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"rocksyd: {order.capitalize()} failed: ")
        assert "SyntaxError" in done.stderr
        assert json.loads(rocksyd(daemon.address, "stats", "--json").stdout)["generation"] == 1


def test_check_config_says_all_that_is_wrong_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "rocksyd.toml"
    path.write_text('listen = ["nonsense"]\n[apps.app]\npath = "nowhere"\njobs = ["jobs"]\ncolour = "red"\n')
    done = rocksyd(None, "check-config", "-c", str(path))
    assert (done.returncode, done.stderr) == (1, "")
    assert [line.split(": ")[0] for line in done.stdout.splitlines()][:3] == [f"{path}:1", f"{path}:3", f"{path}:5"]
    as_json = json.loads(rocksyd(None, "check-config", "-c", str(path), "--json").stdout)
    assert (as_json["ok"], as_json["errors"]) == (False, done.stdout.splitlines())
    with Daemon(tmp_path / "good", JOBS) as daemon:
        done = rocksyd(None, "check-config", "-c", str(daemon.config))
        assert (done.returncode, done.stdout.startswith(f"{daemon.config}: OK\n")) == (0, True)
