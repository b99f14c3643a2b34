"""Memcached's own clients read the daemon: a Python one, and libmemcached's memcstat."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymemcache.client.base import Client as Memcache
from pymemcache.exceptions import MemcacheUnknownCommandError

import rocksyd
from rocksyd.errors import JobError
from rocksyd.testing.daemon import Daemon, until

JOBS = """\
import os
import time

import rocksyd


@rocksyd.job
def counts(users, path=None):
    for n in range(3):
        rocksyd.gauge("users_count", users + n)
    rocksyd.gauge("load.avg", 0.25)
    while path is not None and not os.path.exists(path):
        time.sleep(0.01)


@rocksyd.job
def names(name, value):
    rocksyd.gauge(name, value)
"""
CONFIG = """\
listen = ["unix://d.sock", "tcp://127.0.0.1:0"]
auth = "none"
state_dir = "var"
[apps.shop]
path = "app"
jobs = ["jobs"]
[apps.shop.pool]
pm = "dynamic"
max_workers = 2
min_spare = 1
max_spare = 1
"""
NUMBER = re.compile(rb"-?\d+(\.\d{1,6})?")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, JOBS, config=CONFIG) as daemon:
        yield daemon


def place(daemon: Daemon) -> tuple[str, int]:
    with daemon.client() as client:
        host, _, port = client.health()["listen"][1].removeprefix("tcp://").rpartition(":")
    return host, int(port)


@pytest.fixture
def memcache(daemon: Daemon) -> Iterator[Memcache]:
    client = Memcache(place(daemon), connect_timeout=30, timeout=30)
    yield client
    client.close()


def stats(memcache: Memcache, *words: str) -> dict[str, Any]:
    return {name.decode(): value for name, value in memcache.stats(*words).items()}


def test_a_python_client_reads_numbers_pools_jobs_and_settings(daemon: Daemon, memcache: Memcache, tmp_path: Path) -> None:
    with daemon.client() as client:
        client.run("counts", 1).wait()
        held = client.run("counts", 7, str(tmp_path / "go"))
        until(lambda: int(stats(memcache)["users_count"]) == 7, "the first of its gauges to be said")
        found = stats(memcache)
        assert memcache.version() == f"1.4.0-rocksyd-{rocksyd.__version__}".encode()
        assert {name: int(found[name]) for name in ("runs_running", "runs_waiting", "runs_ended_ok")} == {
            "runs_running": 1, "runs_waiting": 0, "runs_ended_ok": 1,
        }  # fmt: skip
        assert int(found["total_memory"]) > int(found["data_memory"]) > 1 << 20
        for name in ("requests_per_second", "requests_per_second_10", "requests_per_second_60", "uptime", "time", "pid"):
            assert NUMBER.fullmatch(found[name]) if isinstance(found[name], bytes) else found[name] >= 0, name
        jobs = stats(memcache, "jobs")
        assert (int(jobs["shop:counts:running"]), int(jobs["shop:counts:waiting"])) == (1, 0)
        pools = stats(memcache, "pools")
        assert (pools["shop:pm"], int(pools["shop:parked"]), int(pools["shop:max_workers"])) == (b"dynamic", 0, 2)
        assert not [value for value in pools.values() if b"None" in str(value).encode() or str(value)[:1] in "[{"]
        settings = stats(memcache, "settings")
        assert settings["shop:pm"] == b"dynamic"
        (tmp_path / "go").touch()
        held.wait()
        client.restart()
        memcache.close()
        assert int(stats(memcache)["users_count"]) == 9
        os.kill(client.stats()["master_pid"], signal.SIGKILL)
        until(lambda: client.stats()["crashes"] == 1, "another master")
        memcache.close()
        assert int(stats(memcache)["users_count"]) == 9
        assert client.stats()["gauges"] == {"shop": {"users_count": 9, "load.avg": 0.25}}


def test_reset_and_what_is_unknown_are_answered_as_memcached_does(daemon: Daemon) -> None:
    talk = daemon.talk()
    with daemon.client() as client:
        client.run("counts", 5).wait()
        talk.send("stats reset")
        assert talk.line() == b"RESET\r"
        talk.send("stats")
        found = dict(line.split(b" ", 2)[1:] for line in iter(lambda: talk.line().rstrip(b"\r"), b"END"))
        assert found[b"runs_ended_ok"] == b"0"
        assert found[b"users_count"] == b"7"
        assert client.stats()["runs_ended_ok"] == 1, "what others count is left alone"
        for words in ("stats nonsense", "stats pools more"):
            talk.send(words)
            assert talk.line() == b"ERROR\r"
        talk.send("quit")
        assert talk.line() == b""


def test_pymemcache_knows_the_error(memcache: Memcache) -> None:
    with pytest.raises(MemcacheUnknownCommandError):
        memcache.stats("nonsense")


def test_memcstat_reads_it(daemon: Daemon) -> None:
    host, port = place(daemon)
    done = subprocess.run(["memcstat", f"--servers={host}:{port}"], capture_output=True, text=True, timeout=60, check=True)
    assert re.search(r"^\s+runs_running: 0$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(rf"^\s+version: {rocksyd.__version__}", done.stdout, re.MULTILINE)


def test_a_gauge_is_a_name_and_a_number_said_in_a_run(daemon: Daemon) -> None:
    with pytest.raises(JobError, match="only inside a run"):
        rocksyd.gauge("users_count", 1)
    with daemon.client() as client:
        for name, value in (("two words", 1), ("", 1), ("n" * 65, 1), ("n", "1"), ("n", True), ("n", None)):
            record = client.run("names", name, value).wait()
            assert record["error"]["type"] == "JobError", (name, value)
        assert client.stats()["gauges"] == {}
