"""The ladder: what the keeper does with a master that dies again and again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from rocksyd.testing import Daemon, until
from rocksyd.testing.daemon import copy_package, descendants
from tests.faults.crowd import IMPATIENT, JOBS, POOL, ended, serving_master, the_master, traced

DIES = """
        import os
        if os.path.exists(os.environ["DIES"]):
            os.abort()
"""


def doomed(folder: Path, where: str = "    def run(self) -> NoReturn:\n") -> Path:
    """A package whose masters abort as soon as they serve, or ``where`` it is said, while a file exists."""
    package = copy_package(folder / "doomed")
    (path,) = (path for path in (package / "master").glob("*.py") if where in path.read_text())
    head, mark, rest = path.read_text().partition(where)
    path.write_text(f"{head}{mark}{DIES}{rest}")
    ladder = package / "keeper" / "ladder.py"
    text = ladder.read_text()
    assert "LAST_DELAY = 5.0" in text
    ladder.write_text(text.replace("LAST_DELAY = 5.0", "LAST_DELAY = 0.3"))
    return package


def test_after_eight_masters_that_died_young_the_keeper_gives_up_and_its_last_line_says_how(tmp_path: Path) -> None:
    environment = {"DIES": str(tmp_path / "dies")}
    with Daemon(tmp_path, JOBS, parts={"pool": IMPATIENT}, package=doomed(tmp_path), environment=environment) as daemon:
        talk = daemon.talk()
        assert talk.ask('run {"hash":1,"class":"deaf","params":[]}') == {"error_text": "OK"}
        until(lambda: traced(daemon)["1"], "the run to begin")
        daemon.wait_shelved(1)
        everybody = descendants(daemon.pid)
        (tmp_path / "dies").touch()
        os.kill(the_master(daemon), signal.SIGKILL)
        assert daemon.wait(70) == 70
        last = daemon.log().strip().split("\n")[-1]
        assert "exiting with status 70: giving up after 8 masters died young" in last
        assert "SIGABRT" in last
        assert talk.line() == b""
        assert not any(os.path.exists(f"/proc/{pid}") for pid in everybody)
        (tmp_path / "dies").unlink()
        daemon.start()
        assert ended(daemon, "1")["outcome"] == "lost"


def test_from_the_fourth_young_death_on_the_master_starts_without_what_was_busy_and_with_what_was_quiet(tmp_path: Path) -> None:
    """The masters die before they have closed anything: so it is the keeper that closes the busy one."""
    environment = {"DIES": str(tmp_path / "dies")}
    package = doomed(tmp_path, "    def _take_over(self) -> None:\n")
    with Daemon(tmp_path, JOBS, parts={"pool": IMPATIENT}, package=package, environment=environment) as daemon:
        quiet, talk = daemon.talk(), daemon.talk()
        assert quiet.ask('check {"hash":1}') == {"error_text": "Hash not found"}
        assert talk.ask('run {"hash":1,"class":"deaf","params":[]}') == {"error_text": "OK"}
        until(lambda: traced(daemon)["1"], "the run to begin")
        daemon.wait_shelved(2)
        talk.rpc("subscribe")
        (tmp_path / "dies").touch()
        os.kill(the_master(daemon), signal.SIGKILL)
        assert talk.line() == b""
        (tmp_path / "dies").unlink()
        until(lambda: "without the 1 busy connections" in daemon.log(), "the keeper to say so")
        assert quiet.ask('check {"hash":1}') == {"error_text": "Still running"}
        assert daemon.talk().ask('check {"hash":1}') == {"error_text": "Still running"}
        assert daemon.talk().ask('terminate {"hash":1}') == {"error_text": "OK"}
        assert ended(daemon, "1")["reason"] == "cancelled"


def test_three_young_deaths_cost_no_connection(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk = daemon.talk()
        daemon.wait_shelved(1)
        for _ in range(3):
            victim = the_master(daemon)
            os.kill(victim, signal.SIGKILL)
            until(lambda victim=victim: serving_master(daemon) not in (0, victim), "another master")
        assert talk.ask('run {"hash":1,"class":"good","params":[]}') == {"error_text": "OK"}
        assert ended(daemon, "1")["result"] == "1"
