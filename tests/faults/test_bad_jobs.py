"""Jobs that do what they should not: only their own run notices."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon, until
from tests.faults.crowd import JOBS, ended, found, traced, zygotes
from tests.files import wait_lines

BAD = (
    JOBS
    + """
import resource, subprocess

@job
def daemonises(descriptors):
    "The double fork of a daemon: nothing of it is in the run's session or group."
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            if not descriptors:
                os.closerange(0, 1000)
            with open("left", "w") as file:
                file.write(f"{os.getpid()}\\n")
            time.sleep(60)
        os._exit(0)
    os.wait()
    return "daemonised"

@job
def closes_everything(how="return"):
    os.closerange(0, 1000)
    trace()
    ENDS[how]()

@job
def writes(count, size):
    for number in range(count):
        os.write(1, b"x" * (size - 1) + b"\\n")

@job
def prints_from_everywhere():
    print("python")
    libc = ctypes.CDLL(None)
    libc.puts(b"c library")
    subprocess.run(["sh", "-c", "echo shell; echo error >&2"], check=True)
    os.write(1, b"descriptor\\n")
    print("stderr", file=sys.stderr)
    libc.printf(b"no newline")

@job
def eats(what):
    if what == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        return len(bytearray(1 << 31))
    if what == "cpu":
        resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
        while True:
            pass
    if what == "files":
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        return len([os.open("/dev/null", os.O_RDONLY) for _ in range(100)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    with open("large", "wb") as file:
        file.write(bytes(10_000))

@job
def leaves_a_mess():
    os.chdir("/")
    os.umask(0)
    os.environ["MESS"] = "1"
    os.environ.pop("HOME", None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    sys.stdout.close()
    os.close(2)
    sys.stderr = None
    return os.getpid()

@job
def looks_around():
    umask = os.umask(0)
    os.umask(umask)
    print("heard")
    return {
        "pid": os.getpid(), "cwd": os.getcwd(), "umask": umask, "mess": os.environ.get("MESS"), "home": "HOME" in os.environ,
        "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "timer": signal.getitimer(signal.ITIMER_REAL)[0],
    }

@job
def forks(times):
    "Every child comes back, too."
    for _ in range(times):
        os.fork()
    return "from everyone"

@job
def kills_its_group():
    os.killpg(os.getpgid(0), signal.SIGKILL)

@job
def stops_itself():
    trace()
    os.kill(os.getpid(), signal.SIGSTOP)
"""
)
POOL = 'pm = "dynamic"\nmax_workers = 4\nmin_spare = 1\nmax_spare = 2\ngrace = "30s"'


def run(daemon: Daemon, target: str, *params: Any, key: str = "1") -> dict[str, Any]:
    """Run it and return its record; afterwards the daemon must still run others."""
    with daemon.client() as client:
        client.run(target, *params, key=key)
        record = ended(daemon, key)
        assert client.call("good", key=f"{key}-after") == f"{key}-after"
        return record


def output(daemon: Daemon, key: str = "1") -> str:
    with daemon.client() as client:
        return "".join(client.logs(key))


@pytest.mark.parametrize("descriptors", [True, False], ids=["with_its_descriptors", "closed"])
def test_a_job_that_leaves_a_daemon_behind_ends_all_the_same(tmp_path: Path, descriptors: bool) -> None:
    with Daemon(tmp_path, BAD, parts={"pool": POOL}) as daemon:
        expected = {"outcome": "ok", "result": "daemonised"}
        assert found(run(daemon, "daemonises", descriptors), expected) == expected
        pid = int(wait_lines(tmp_path / "app" / "left")[0])
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        until(lambda: len(zygotes(daemon)) == 1, "the old zygote to leave, whoever else is there")
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("how", "retcode"), [("return", 0), ("exit", 3), ("kill", 137)])
def test_p2_a_job_that_closes_all_descriptors_is_reported_by_its_exit_status(tmp_path: Path, how: str, retcode: int) -> None:
    with Daemon(tmp_path, BAD, parts={"pool": POOL}) as daemon:
        assert run(daemon, "closes_everything", how)["retcode"] == retcode
        assert traced(daemon) == {"1": 1, "1-after": 1}


@pytest.mark.parametrize("kept", [True, False], ids=["while_it_writes", "at_its_end"])
def test_output_beyond_the_limit_is_cut_with_a_mark(tmp_path: Path, kept: bool) -> None:
    count, size = (400, 1 << 20) if kept else (1, 3 << 20)  # one write: nobody can look in the middle of it
    with Daemon(tmp_path, BAD, parts={"pool": POOL, "top": '[output]\nlimit = "1M"'}) as daemon:
        record = run(daemon, "writes", count, size)
        assert record["outcome"] == "ok"
        text = Path(record["log"]).read_text()
        assert len(text) < (1 << 20) + 200
        mark = text[1 << 20 :]
        found_cut = re.fullmatch(r"\n\[rocksyd: output cut here, at least (\d+) bytes more were not kept \(limit 1M\)\]\n", mark)
        assert found_cut, mark
        beyond = count * size - (1 << 20)
        assert beyond / 2 < int(found_cut[1]) <= beyond if kept else int(found_cut[1]) == beyond
        with daemon.client() as client:
            assert client.request("logs", {"key": "1"})["truncated"] is True


def test_what_python_c_and_subprocesses_print_is_all_there(tmp_path: Path) -> None:
    with Daemon(tmp_path, BAD, parts={"pool": POOL}) as daemon:
        assert run(daemon, "prints_from_everywhere")["outcome"] == "ok"
        lines = output(daemon).split("\n")
        assert sorted(lines) == sorted(["python", "c library", "shell", "error", "descriptor", "stderr", "no newline"])


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("memory", {"outcome": "failed", "retcode": 1}),
        ("cpu", {"outcome": "killed", "retcode": 128 + signal.SIGXCPU, "signal": signal.SIGXCPU}),
        ("files", {"outcome": "failed", "retcode": 1}),
        ("file size", {"outcome": "failed", "retcode": 1}),
    ],
)
def test_a_job_that_exhausts_a_limit_fails_alone(tmp_path: Path, what: str, expected: dict[str, Any]) -> None:
    with Daemon(tmp_path, BAD, parts={"pool": POOL}) as daemon:
        assert found(run(daemon, "eats", what), expected) == expected


def test_what_a_job_does_to_its_process_does_not_reach_the_next_in_the_same_process(tmp_path: Path) -> None:
    pool = 'pm = "static"\nmax_workers = 1\nmax_jobs = 10'
    with Daemon(tmp_path, BAD, parts={"pool": pool}) as daemon, daemon.client() as client:
        clean = client.call("looks_around", key="clean")
        assert client.call("leaves_a_mess") == clean["pid"]
        assert client.call("looks_around", key="after") == clean
        assert "".join(client.logs("after")) == "heard\n"
        client.run("good", 60, key="long")
        until(lambda: traced(daemon)["long"], "a run in the same process")
        client.terminate("long")
        assert ended(daemon, "long")["signal"] == 15


def test_only_the_worker_itself_speaks_for_a_job_that_forks(tmp_path: Path) -> None:
    with Daemon(tmp_path, BAD, parts={"pool": POOL}) as daemon:
        expected = {"outcome": "ok", "result": "from everyone", "retcode": 0}
        assert found(run(daemon, "forks", 2), expected) == expected
        with daemon.client() as client:
            assert client.stats()["runs_ended_ok"] == 2


def test_a_job_that_kills_its_group_kills_nobody_else(tmp_path: Path) -> None:
    with Daemon(tmp_path, BAD, parts={"pool": POOL}) as daemon:
        expected = {"outcome": "killed", "retcode": 137, "signal": 9}
        assert found(run(daemon, "kills_its_group"), expected) == expected


def test_a_stopped_job_is_ended_by_its_order(tmp_path: Path) -> None:
    with Daemon(tmp_path, BAD, parts={"pool": POOL.replace('"30s"', '"500ms"')}) as daemon, daemon.client() as client:
        client.run("stops_itself", key="1")
        until(lambda: traced(daemon)["1"], "the run to begin")
        client.terminate("1")
        assert ended(daemon, "1")["retcode"] in (143, 137)
