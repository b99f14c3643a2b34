"""What goes wrong with scripts and with the daemon itself is told by a real daemon to a real receiver."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from rocksyd.cli.commands import run_command
from rocksyd.testing.daemon import until
from tests.companions.stage import BELL, wait_ready
from tests.notify.receivers import hook
from tests.notify.stage import daemon, wait_hears, webhook

SCRIPTS = """
[scripts.failing]
target = "fails"
every = "1s"
overlap = "allow"

[scripts.blocked]
target = "gate"
every = "1s"
long_after = "1s"

[scripts.short]
target = "ok"
every = "1s"
at_least = "1h"
overlap = "allow"

[scripts.many]
target = "fails"
jobs = { instances = 3 }
"""


def test_scripts_that_fail_are_left_out_take_too_long_or_too_short_are_told_each_once(tmp_path: Path) -> None:
    with hook() as got, daemon(tmp_path, webhook(got.url, "after = 2") + SCRIPTS) as served:
        os.mkfifo(served.app / "gate")
        wait_ready(served.talk(), "notify")
        wait_hears(served, "failed", "scripts")
        told = {}
        while len(told) < 4:
            said = got.next()
            name = said["kind"], said["subject"]
            assert name not in told, "the same thing is told once in an hour"
            told[name] = said
        assert told.keys() == {("failed", "failing"), ("missed", "blocked"), ("long", "blocked"), ("short", "short")}
        assert told["failed", "failing"]["in_a_row"] == 2
        assert told["failed", "failing"]["about"]["key"].startswith("failing@")
        assert "was not run" in told["missed", "blocked"]["title"]
        assert told["long", "blocked"]["about"]["key"].startswith("blocked@")
        talk = served.talk()
        for name in ("failing", "blocked", "short"):
            talk.rpc("schedule.pause", name=name)
        (served.app / "gate").open("w").close()
        over = got.until("long", over=True)
        assert "has ended" in over["title"]
        keys = [talk.rpc("schedule.run", name="many")["key"] for _ in range(2)]
        while "3 of 3 jobs did not end well" not in (said := got.next())["title"]:
            assert said["kind"] != "late"
        assert (said["kind"], said["subject"], said["in_a_row"]) == ("failed", "many", 2), "each list counts as a whole"
        assert said["about"]["key"] == keys[1]
        assert said["title"].startswith(f"{keys[1]} failed, and 1 list of jobs before it")


def test_a_companion_that_died_and_a_refused_restart_are_told_and_when_they_are_well_again(tmp_path: Path) -> None:
    (tmp_path / "bell.py").write_text(BELL)
    os.mkfifo(tmp_path / "never")
    bell = '[companions.bell]\ntarget = "bell:serve"\npath = "."\nnamespace = "bell"\n'
    bell += f'[companions.bell.settings]\nfolder = "{tmp_path}"\n'
    with hook() as got, daemon(tmp_path, webhook(got.url) + bell) as served:
        talk = served.talk()
        wait_ready(talk, "notify")
        wait_hears(served)
        pid = wait_ready(talk, "bell")
        (tmp_path / "cannot").touch()
        os.kill(pid, signal.SIGKILL)
        down = got.until("companion")
        assert "companion bell is" in down["title"]
        (tmp_path / "cannot").unlink()
        assert got.until("companion", over=True)["subject"] == "bell"
        jobs = served.app / "jobs.py"
        text = jobs.read_text()
        jobs.write_text("this is no Python")
        assert "Restart failed" in str(served.restart())
        assert "a restart was refused" in got.until("restart")["title"]
        jobs.write_text(text)
        assert served.restart() == {"error_text": "Restarted successfully"}
        assert got.until("restart", over=True)
        wait_ready(served.talk(), "notify")
        assert run_command(["--address", served.address, "notify", "list"]) == 0
        until(lambda: served.talk().rpc("notify.list")[0]["waiting"] == 0, "all to be delivered")
