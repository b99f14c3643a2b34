"""The keeper is killed: the service is over, and the next one knows what became of everything."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from rocksyd.testing import Daemon, until
from rocksyd.testing.daemon import descendants
from tests.faults.crowd import IMPATIENT, JOBS, ended, traced

NESTED = (
    JOBS
    + """
@job
def family():
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
        os._exit(0)
    trace()
    time.sleep(60)
"""
)


def alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}") and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_p2_no_orphan_is_left_and_the_next_start_reports_what_ran_as_lost_and_runs_what_waited(tmp_path: Path) -> None:
    pool = 'pm = "ondemand"\nmax_workers = 2\ngrace = "500ms"'
    with Daemon(tmp_path, NESTED, parts={"pool": pool}) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"family","params":[]}') == {"error_text": "OK"}
        assert talk.ask('run {"hash":2,"class":"deaf","params":[]}') == {"error_text": "OK"}
        assert talk.ask('run {"hash":3,"class":"good","params":[]}') == {"error_text": "OK"}
        until(lambda: traced(daemon) == {"1": 1, "2": 1}, "two runs to begin")
        everybody = descendants(daemon.pid)
        assert len(everybody) >= 5
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait(-9)
        assert talk.line() == b""
        until(lambda: not any(alive(pid) for pid in everybody), "all processes of the service to end")
        daemon.start()
        for key in ("1", "2"):
            record = ended(daemon, key)
            assert (record["outcome"], record["reason"], record["retcode"]) == ("lost", "lost", 255)
        assert ended(daemon, "3")["result"] == "3"
        assert traced(daemon) == {"1": 1, "2": 1, "3": 1}


def test_keeper_and_master_killed_together_leave_nothing_behind_either(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": IMPATIENT}) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"deaf","params":[]}') == {"error_text": "OK"}
        until(lambda: traced(daemon)["1"], "the run to begin")
        everybody = descendants(daemon.pid)
        for pid in (daemon.pid, daemon.master_pid):
            os.kill(pid, signal.SIGKILL)
        daemon.wait(-9)
        until(lambda: not any(alive(pid) for pid in everybody), "all processes of the service to end")
        daemon.start()
        assert ended(daemon, "1")["outcome"] == "lost"
