"""One thin line through every process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from rocksyd.testing import Daemon

JOBS = """
import time
from rocksyd import job

@job
def add(a, b):
    return a + b

@job
def nap(seconds):
    time.sleep(seconds)
    return "rested"
"""


def test_a_job_runs_and_a_restart_keeps_the_connection(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        before = daemon.master_pid
        assert talk.ask('run {"hash":1,"class":"add","params":[1,2]}') == {"error_text": "OK"}
        assert talk.rpc("wait", key="1")["result"] == 3
        assert talk.ask("restart") == {"error_text": "Restarted successfully"}
        assert talk.ask('check {"hash":1}') == {"retcode": 0}
        assert daemon.master_pid != before


def test_a_killed_master_is_not_noticed_by_a_quiet_connection(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"nap","params":[0.5]}') == {"error_text": "OK"}
        daemon.wait_shelved(1)
        os.kill(daemon.master_pid, signal.SIGKILL)
        assert daemon.talk().rpc("wait", key="1")["result"] == "rested"
        assert talk.ask('check {"hash":1}') == {"retcode": 0}
