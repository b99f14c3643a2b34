"""P1-P4, P11: somebody is killed in the middle of a restart. The test decides the moment: a gate in the code holds it there."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon, until
from rocksyd.testing.daemon import copy_package
from tests.faults.crowd import JOBS, POOL, ended, kill_master, open_gate, serving_master, the_master, traced, zygotes

SLOW = (
    JOBS
    + """
if os.path.exists("slow"):
    open("loading", "w").close()
    while os.path.exists("slow"):
        time.sleep(0.005)
"""
)
HOLD = """
        import os, time
        while os.path.exists(os.environ["HOLD"]):
            open(os.environ["HOLD"] + ".reached", "w").close()
            time.sleep(0.005)
"""


class Restarting:
    """A daemon with a run that goes on, quiet connections, and a restart that is held while the application is loaded."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.talk = daemon.talk()
        assert self.talk.ask('run {"hash":1,"class":"held","params":[]}') == {"error_text": "OK"}
        until(lambda: traced(daemon)["1"], "the run to begin")
        self.half = daemon.talk()
        self.half.socket.sendall(b'check {"ha')
        daemon.wait_shelved(2)
        self.old = the_master(daemon)
        (self.zygote,) = zygotes(daemon)
        self.requester = daemon.talk()

    def order(self) -> None:
        (self.daemon.app / "slow").touch()
        self.requester.send("restart")
        until((self.daemon.app / "loading").exists, "the application to be loaded anew")
        self.candidate = next(pid for pid in self.daemon.children("rocksyd: master") if pid != self.old)
        (self.new_zygote,) = (pid for pid in zygotes(self.daemon) if pid != self.zygote)

    def release(self) -> None:
        (self.daemon.app / "slow").unlink()

    def all_is_well(self, generation: int, *, half: bool = True) -> None:
        """The run goes on and is reported, new ones run, quiet connections stand, and one generation is left."""
        daemon = self.daemon
        assert self.talk.ask('check {"hash":1}') == {"error_text": "Still running"}
        open_gate(daemon)
        assert ended(daemon, "1")["result"] == "1"
        assert self.talk.ask('run {"hash":2,"class":"good","params":[]}') == {"error_text": "OK"}
        assert ended(daemon, "2")["result"] == "2"
        assert self.talk.rpc("pools")[0]["generation"] == generation
        if half:
            self.half.socket.sendall(b'sh":2}\n')
            assert self.half.line() == b'{"retcode":0}'
        until(lambda: len(zygotes(daemon)) == 1, "one zygote to be left")
        until(lambda: len(daemon.children("rocksyd: master")) == 1, "one master to be left")
        assert traced(daemon) == {"1": 1, "2": 1}


@pytest.mark.parametrize("victim", ["candidate", "new_zygote"])
def test_p3_a_restart_whose_new_master_or_zygote_is_killed_changes_nothing(tmp_path: Path, victim: str) -> None:
    with Daemon(tmp_path, SLOW, parts={"pool": POOL}) as daemon:
        restarting = Restarting(daemon)
        restarting.order()
        os.kill(getattr(restarting, victim), signal.SIGKILL)
        reply = restarting.requester.line()
        assert reply.startswith(b'{"error_text":"Restart failed: '), reply
        assert b"SIGKILL" in reply or b"signal 9" in reply
        restarting.release()
        restarting.all_is_well(1)
        assert serving_master(daemon) == restarting.old


def test_p11_when_the_serving_master_is_killed_while_the_next_one_prepares_nobody_waits_for_that(tmp_path: Path) -> None:
    with Daemon(tmp_path, SLOW, parts={"pool": POOL}) as daemon:
        restarting = Restarting(daemon)
        restarting.order()
        os.kill(restarting.old, signal.SIGKILL)
        assert restarting.requester.line() == b""
        assert restarting.half.line() == b""
        until(lambda: serving_master(daemon) not in (0, restarting.old, restarting.candidate), "another master")
        restarting.all_is_well(1, half=False)  # while the new code would still be loading
        reason = "the master was killed by SIGKILL while a restart was under way"
        assert f"restart failed: {reason}" in daemon.log()
        crash, *_ = restarting.talk.rpc("stats")["restarts"]
        assert (crash["kind"], crash["reason"]) == ("crash", reason)
        restarting.release()
        assert restarting.talk.ask("restart") == {"error_text": "Restarted successfully"}


def test_p3_what_a_new_master_loses_while_the_old_one_freezes_is_the_reason_that_is_given(tmp_path: Path) -> None:
    package, environment = held_at(tmp_path, MOMENTS["freezing"])
    with Daemon(tmp_path, SLOW, parts={"pool": POOL}, package=package, environment=environment) as daemon:
        restarting = Restarting(daemon)
        restarting.order()
        (tmp_path / "hold").touch()
        restarting.release()
        until((tmp_path / "hold.reached").exists, "the old master to freeze")
        os.kill(restarting.new_zygote, signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{restarting.candidate}"), "the end of the new master")
        (tmp_path / "hold").unlink()
        reply = json.loads(restarting.requester.line())["error_text"]
        assert reply.startswith("Restart failed: the zygote of app ended ("), reply
        restarting.all_is_well(1)
        assert serving_master(daemon) == restarting.old


def test_p11_old_and_new_master_are_killed_while_the_new_one_prepares(tmp_path: Path) -> None:
    with Daemon(tmp_path, SLOW, parts={"pool": POOL}) as daemon:
        restarting = Restarting(daemon)
        restarting.order()
        for pid in (restarting.candidate, restarting.old):
            os.kill(pid, signal.SIGKILL)
        restarting.release()
        until(lambda: serving_master(daemon) not in (0, restarting.old, restarting.candidate), "another master")
        restarting.all_is_well(1, half=False)


def held_at(folder: Path, where: str) -> tuple[Path, dict[str, str]]:
    """A package whose masters wait, while a file exists, at the beginning of a function: (package, environment)."""
    package = copy_package(folder / "held")
    for path in sorted((package / "master").glob("*.py")):
        text = path.read_text()
        if where in text:
            line, _, rest = text.partition(where)[2].partition("\n")
            hold = HOLD if where.startswith("    ") else HOLD.replace("\n    ", "\n")
            path.write_text(f"{text.partition(where)[0]}{where}{line}\n{hold}{rest}")
            return package, {"HOLD": str(folder / "hold")}
    raise AssertionError(f"no master has {where!r} any more")


MOMENTS = {
    "adopting": "    def _take_over(self",
    "serving": "    def _begin_to_serve(self",
    "frozen": "def _verdict(",
    "freezing": "def freeze(",
}
KILLED = [
    (moment, victim) for moment in MOMENTS for victim in ("old", "candidate") if (moment, victim) != ("frozen", "candidate")
]
"""(While the old one is frozen the new one is on its way from adopting to serving, which are moments of their own.)"""


@pytest.mark.parametrize(("moment", "victim"), KILLED)
def test_p4_p11_a_master_killed_at_any_moment_of_the_take_over_leaves_a_service(tmp_path: Path, moment: str, victim: str) -> None:
    package, environment = held_at(tmp_path, MOMENTS[moment])
    parts: dict[str, Any] = {"pool": POOL, "top": '[restart]\nadopt_timeout = "20s"'}
    with Daemon(tmp_path, SLOW, parts=parts, package=package, environment=environment) as daemon:
        restarting = Restarting(daemon)
        restarting.order()
        (tmp_path / "hold").touch()
        restarting.release()
        until((tmp_path / "hold.reached").exists, f"a master to be {moment}")
        with suppress(ProcessLookupError):  # once the new one serves, the old one leaves by itself
            os.kill(getattr(restarting, victim), signal.SIGKILL)
        (tmp_path / "hold").unlink()
        failed = victim == "candidate" and moment != "serving"
        if failed:
            assert restarting.requester.line().startswith(b'{"error_text":"Restart failed: ')
        until(
            lambda: serving_master(daemon) not in (0, restarting.candidate if victim == "candidate" else restarting.old),
            "a master",
        )
        restarting.all_is_well(1 if failed else 2, half=False)


def test_p11_the_next_restart_after_a_crash_in_a_restart_works(tmp_path: Path) -> None:
    with Daemon(tmp_path, SLOW, parts={"pool": POOL}) as daemon:
        restarting = Restarting(daemon)
        restarting.order()
        os.kill(restarting.old, signal.SIGKILL)
        until(lambda: serving_master(daemon) not in (0, restarting.old, restarting.candidate), "another master")
        restarting.release()
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        kill_master(daemon)
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        restarting.all_is_well(3, half=False)
