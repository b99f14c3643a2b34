"""A scheduler does not wake before the next tick, however many scripts it has."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rocksyd.testing.daemon import until
from tests.restart.stage import many, order
from tests.schedule.stage import daemon, scheduler, wait_ready

INTERVAL = 3.0
"""Seconds that are waited through. Nothing may happen in them, so no more of them could make the test fail."""


def slept(pid: int) -> int:
    """How often all threads of a process have gone to sleep so far."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += int((task / "status").read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return found


@pytest.mark.timeout(900)
def test_ten_thousands_of_schedules_do_not_wake_it_before_the_next_tick(tmp_path: Path) -> None:
    """100,000 when it is to be thorough."""
    number = many(1_000, 100_000)
    scripts = (f'[scripts.s{one}]\ntarget = "tick"\ncron = "{one % 60} {one % 24} 29 2 *"\n' for one in range(number))
    with daemon(
        tmp_path, '[scheduler]\nready_timeout = "10m"\n[restart]\nhello_timeout = "10m"\nprepare_timeout = "10m"\n'
    ) as served:
        folder = tmp_path / "scripts.d"
        folder.mkdir()
        (folder / "many.toml").write_text("".join(scripts))
        talk = served.talk()
        talk.socket.settimeout(600)
        talk.rpc("restart")
        wait_ready(talk, "scheduler")
        pid = scheduler(served)

        def acts() -> bool:
            reply = talk.ask(order("schedule.next", name="s1", count=2))
            if "error" in reply:
                assert "has not begun to act" in reply["error"]["message"]
                return False
            return len(reply["result"]) == 2

        until(acts, "the scheduler to have read all of them", timeout=300)

        def settled() -> bool:
            before = slept(pid)
            time.sleep(1.0)
            return slept(pid) == before

        until(settled, "the scheduler to have looked at all of them", timeout=300)
        before = slept(pid)
        time.sleep(INTERVAL)
        assert slept(pid) == before
