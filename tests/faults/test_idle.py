"""A daemon with nothing to do does nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from rocksyd.testing.daemon import command_line, descendants
from tests.faults.crowd import JOBS, ended, kill_master

POOLS = {
    "static": 'pm = "static"\nmax_workers = 3',
    "dynamic": 'pm = "dynamic"\nmax_workers = 8\nmin_spare = 2\nmax_spare = 3',
    "ondemand": 'pm = "ondemand"\nmax_workers = 4\nidle_timeout = "200ms"',
    "limited": 'pm = "static"\nmax_workers = 2\nmax_jobs = 0\nmax_rss_hard = "2G"\nmax_total_rss = "4G"\nslow_after = "1h"',
    "recycled": 'pm = "dynamic"\nmax_workers = 4\nmin_spare = 1\nmax_spare = 2\nmax_jobs = 2\ntimeout = "1m"',
}
APPLICATION = """
[apps.{name}]
path = "app"
jobs = ["jobs"]
[apps.{name}.pool]
{pool}
"""
CONFIG = 'listen = ["unix://d.sock"]\nstate_dir = "var"\n' + "".join(
    APPLICATION.format(name=name, pool=pool) for name, pool in POOLS.items()
)
SUSPICION = 5.0
"""Seconds after its start in which a master that follows a dead one has something to look at once (``SUSPECT_TIMEOUT``)."""
INTERVAL = 3.0
"""Seconds that are waited through. Nothing may happen in them, so no more of them could make the test fail."""


def wakeups(daemon: Daemon) -> dict[str, int]:
    """How often each process of the service has gone to sleep so far, by title and PID."""
    found = {}
    for pid in (daemon.pid, *descendants(daemon.pid)):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        title = command_line(pid) if pid != daemon.pid else "rocksyd: keeper"
        found[f"{title} {pid}"] = int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return found


def restart(daemon: Daemon) -> None:
    assert daemon.restart() == {"error_text": "Restarted successfully"}


def kill(daemon: Daemon) -> None:
    kill_master(daemon)


def nothing(daemon: Daemon) -> None:
    pass


@pytest.mark.parametrize("happens", [nothing, restart, kill])
def test_an_idle_daemon_does_not_wake(tmp_path: Path, happens: Callable[[Daemon], None]) -> None:
    with Daemon(tmp_path, JOBS, config=CONFIG) as daemon, daemon.client() as client:
        quiet = daemon.talk()
        for app in POOLS:
            for number in range(4):
                client.run("end", "raise" if number == 3 else "return", key=f"{app}{number}", app=app, timeout=60)
        for app in POOLS:
            for number in range(4):
                ended(daemon, f"{app}{number}")
        happens(daemon)
        happened = time.monotonic()
        for app in POOLS:
            client.run("good", key=app, app=app)
            ended(daemon, app)
        client.close()
        before: dict[str, int] = {}

        def settled() -> bool:
            """Nothing woke while the test itself slept a little: whatever had to be done is done."""
            nonlocal before
            before = wakeups(daemon)
            time.sleep(0.5)
            over = happens is not kill or time.monotonic() > happened + SUSPICION + 0.5
            return over and wakeups(daemon) == before

        until(settled, "the daemon to be idle")
        time.sleep(INTERVAL)
        assert wakeups(daemon) == before
        for role, count in [("keeper", 1), ("master", 1), ("zygote", len(POOLS))]:
            assert sum(title.startswith(f"rocksyd: {role}") for title in before) == count, before
        assert quiet.ask('check {"hash":1}') == {"error_text": "Hash not found"}
