"""What a run is tried again for, by real workers; what a stop and a crash do to those that may run again, and to rates."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from rocksyd import Cancel, Executor
from rocksyd.testing import Daemon, until
from rocksyd.testing.daemon import Conversation
from tests.companions.stage import ended, gone
from tests.files import lines

JOBS = """
import os, sys, time
from rocksyd import Cancel, Retry, current, job

HERE = os.path.dirname(__file__)

def note(text):
    fd = os.open(os.path.join(HERE, "ran"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, (text + "\\n").encode())
    os.close(fd)

class Busy(ConnectionError):
    pass

@job(retry_after="10ms")
def ends(how, attempts=2):
    note(f"{current().key} {current().attempt}")
    if current().attempt > attempts:
        return "done"
    if how == "retry":
        raise Retry("not there yet", after=0.01)
    if how == "cancel":
        raise Cancel("nothing to do")
    if isinstance(how, int):
        sys.exit(how)
    if how == "kill":
        os.kill(os.getpid(), 9)
    raise {"busy": Busy, "value": ValueError}[how]()

@job(on_stop="requeue", grace="10s")
def interrupted(how):
    if how == "finishes":
        import signal
        signal.signal(signal.SIGTERM, lambda *_: None)
    note(f"{current().key} {current().attempt}")
    with open(os.path.join(HERE, "gate")) as gate:
        return gate.read()

@job(rate="2/1h")
def rated():
    note(current().key)

@job
async def shared(how):
    note(f"{current().key} {current().attempt}")
    if current().attempt > 1:
        return "done"
    raise {"retry": Retry("not yet", after="10ms"), "cancel": Cancel("nothing"), "busy": Busy()}[how]
"""


def ran(daemon: Daemon) -> list[str]:
    return lines(daemon.app / "ran")


def outcome(talk: Conversation, target: str, key: str, *params: object, **options: object) -> tuple[str, int]:
    talk.rpc("run", target=target, params=list(params), key=key, **options)
    record = talk.rpc("wait", key=key)
    return record["outcome"], record["attempt"]


def test_failures_that_are_worth_it_and_those_that_are_not(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        assert outcome(talk, "ends", "asks", "retry") == ("ok", 3)
        assert outcome(talk, "ends", "cancels", "cancel", retries=5) == ("cancelled", 1)
        assert "cancelled by the job itself: nothing to do" in talk.rpc("logs", key="cancels")["text"]
        assert "Traceback" not in talk.rpc("logs", key="asks")["text"]
        on = {"retries": 5, "retry_on": ["OSError", "killed", 75]}
        assert outcome(talk, "ends", "derived", "busy", **on) == ("ok", 3)
        assert outcome(talk, "ends", "status", 75, **on) == ("ok", 3)
        assert outcome(talk, "ends", "killed", "kill", **on) == ("ok", 3)
        assert outcome(talk, "ends", "other", "value", **on) == ("failed", 1)
        assert outcome(talk, "ends", "another", 3, **on) == ("failed", 1)
        assert outcome(talk, "ends", "few", "busy", 9, retries=1, retry_on=["Busy"]) == ("failed", 2)


def test_runs_that_share_a_worker_ask_and_cancel_in_the_same_way(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": "concurrency = 10\nmax_jobs = 0"}) as daemon:
        talk = daemon.talk()
        assert outcome(talk, "shared", "asks", "retry") == ("ok", 2)
        assert outcome(talk, "shared", "cancels", "cancel", retries=5) == ("cancelled", 1)
        assert outcome(talk, "shared", "busy", "busy", retries=5, retry_on=["ConnectionError"], retry_after="10ms") == ("ok", 2)


def test_p2_a_stop_costs_a_run_that_may_run_again_no_attempt(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        os.mkfifo(daemon.app / "gate")
        talk = daemon.talk()
        for key, how in (("ends", "at once"), ("hears", "finishes")):
            talk.rpc("run", target="interrupted", params=[how], key=key)
        until(lambda: len(ran(daemon)) == 2, "both to begin")
        victim = talk.rpc("status", key="ends")["pid"]
        assert talk.ask("stop") == {"error_text": "OK"}
        gone(victim)
        (daemon.app / "gate").write_text("done")
        daemon.wait(0)
        daemon.start()
        talk = daemon.talk()
        assert (talk.rpc("status", key="hears")["outcome"], talk.rpc("status", key="hears")["result"]) == ("ok", "done")
        until(lambda: ran(daemon)[2:] == ["ends 1"], "the one that was interrupted to run again, as its first attempt")
        victim = talk.rpc("status", key="ends")["pid"]
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait(None)
        ended(victim)  # else it could be the one that reads what is written into the pipe
        daemon.start()
        until(lambda: ran(daemon)[3:] == ["ends 1"], "it to run again after the whole service was killed")
        (daemon.app / "gate").write_text("over")
        record = daemon.talk().rpc("wait", key="ends")
        assert (record["outcome"], record["result"], record["attempt"]) == ("ok", "over", 1)


def test_p2_what_somebody_cancels_is_cancelled_whatever_it_may_do_at_a_stop(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        os.mkfifo(daemon.app / "gate")
        talk = daemon.talk()
        talk.rpc("run", target="interrupted", params=["at once"], key="k")
        until(lambda: ran(daemon), "it to begin")
        talk.rpc("terminate", key="k")
        assert talk.rpc("wait", key="k")["outcome"] == "cancelled"


def test_p11_a_rate_is_kept_over_a_restart_and_a_crash(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        assert outcome(talk, "rated", "first")[0] == "ok"
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        talk = daemon.talk()
        assert outcome(talk, "rated", "second")[0] == "ok"
        victim = daemon.master_pid
        os.kill(victim, signal.SIGKILL)
        gone(victim)
        talk = daemon.talk()
        talk.rpc("run", target="rated", key="third")
        assert outcome(talk, "ends", "beside", 0, 0)[0] == "ok"
        reasons = talk.rpc("why", key="third")["reasons"]
        assert [reason["code"] for reason in reasons] == ["rate"]
        assert "2 of jobs:rated have begun within 1h, and no more than 2 may" in reasons[0]["text"]
        assert ran(daemon) == ["first", "second", "beside 1"]


def test_a_command_asks_by_its_exit_status_and_a_script_has_its_own_ladder(tmp_path: Path) -> None:
    line = "echo >> tried; test $(wc -l < tried) -gt 2 || exit 75"
    script = f'[scripts.sync]\ncommand = ["sh", "-c", "{line}"]\nretries = 3\nretry_after = ["10ms"]\nretry_on = [75]\n'
    other = '[scripts.other]\ncommand = ["sh", "-c", "exit 3"]\nretries = 3\nretry_after = "10ms"\nretry_on = [75]\n'
    with Daemon(tmp_path, JOBS, parts={"top": script + other}) as daemon:
        talk = daemon.talk()
        for name, expected in (("sync", ("ok", 3)), ("other", ("failed", 1))):
            record = talk.rpc("wait", key=talk.rpc("schedule.run", name=name)["key"])
            assert (record["outcome"], record["attempt"]) == expected


def test_an_executor_raises_what_the_job_has_said_to_the_daemon(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, Executor(address=daemon.address) as executor:
        by_name: Any = "ends"
        with pytest.raises(Cancel, match="nothing to do"):
            executor.submit(by_name, "cancel").result()
        assert executor.submit(by_name, "retry").result() == "done"
