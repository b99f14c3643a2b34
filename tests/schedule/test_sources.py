"""Scripts that stand in the code of an application, or are applied by the API; which of them holds, and how they came to be."""

from __future__ import annotations

import json
import os
import pwd
import signal
from pathlib import Path
from typing import Any

import pytest

from rocksyd.cli.commands import run_command
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, DaemonError
from tests.companions.stage import error, gone, wait_ready
from tests.schedule.stage import JOBS, until, wait_ran

BEAT = """
@job(every="1s", owner="team", tags=["often"])
def beat():
    note(current().key)
"""
YEARLY = """
@job(cron="0 3 29 2 *", timezone="Europe/Berlin")
def yearly():
    pass
"""


def listed(talk: Conversation) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in talk.rpc("schedule.list")}


def line_of(served: Daemon, text: str) -> int:
    """Where that stands in the application's module."""
    (path,) = served.app.glob("*.py")
    return path.read_text().splitlines().index(text) + 1


def replaced(served: Daemon, old: str, new: str) -> None:
    (path,) = served.app.glob("*.py")
    path.write_text(path.read_text().replace(old, new))


def test_a_job_with_a_schedule_is_a_script_and_needs_nothing_in_the_configuration(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS + BEAT) as served:
        talk = served.talk()
        key = wait_ran(served, 1)[0]
        assert key.startswith("beat@")
        row = listed(talk)["beat"]
        assert (row["source"], row["owner"], row["tags"], row["when"]) == ("code", "team", ["often"], "1s")
        shown = talk.rpc("schedule.show", name="beat")
        line = line_of(served, '@job(every="1s", owner="team", tags=["often"])')
        assert shown["place"].endswith(f".py:{line}")
        (version,) = talk.rpc("schedule.versions", name="beat")
        assert (version["number"], version["settings"]["every"], version["place"]) == (1, 1.0, shown["place"])


def test_new_code_brings_its_schedules_by_a_restart_and_by_a_reload_and_takes_them_away(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as served:
        assert served.children("rocksyd: scheduler") == []
        replaced(served, "@job\ndef fails", YEARLY + "\n@job\ndef fails")
        assert served.restart() == {"error_text": "Restarted successfully"}
        talk = served.talk()
        until(lambda: list(listed(talk)) == ["yearly"], "the new code's schedule")
        replaced(served, "0 3 29 2 *", "0 4 29 2 *")
        assert served.talk().rpc("reload")["generation"] == 3
        talk = served.talk()
        until(lambda: listed(talk)["yearly"]["when"] == "0 4 29 2 *", "the new schedule")
        versions = talk.rpc("schedule.versions", name="yearly")
        assert [one["number"] for one in versions] == [2, 1]
        assert versions[0]["diff"] == ['-cron = "0 3 29 2 *"', '+cron = "0 4 29 2 *"']
        assert versions[0]["author"].startswith("uid ")
        replaced(served, YEARLY.replace("0 3 29", "0 4 29"), BEAT)
        assert served.restart() == {"error_text": "Restarted successfully"}
        talk = served.talk()
        until(lambda: list(listed(talk)) == ["beat"], "the new code's schedules")
        assert talk.rpc("schedule.versions", name="yearly")[0]["settings"] is None
        wait_ran(served, 1)


@pytest.mark.parametrize("way", ["restart", "reload"])
def test_a_wrong_schedule_in_code_refuses_the_deploy_with_its_file_and_line(tmp_path: Path, way: str) -> None:
    with Daemon(tmp_path, JOBS + BEAT) as served:
        wait_ran(served, 1)
        replaced(served, 'every="1s", owner="team"', 'cron="61 * * * *", owner="team"')
        line = line_of(served, '@job(cron="61 * * * *", owner="team", tags=["often"])')
        refused = error(served.talk(), way)["message"]
        assert f".py:{line}: scripts.beat.cron: the minute is '61', and may be 0-59" in refused
        wait_ran(served, len(wait_ran(served, 1)) + 1)
        replaced(served, '"61 * * * *"', '"0 3 * * *", timezone="Europe/Nowhere"')
        assert (
            f".py:{line}: scripts.beat.timezone: there is no time zone 'Europe/Nowhere'" in error(served.talk(), way)["message"]
        )


def test_a_start_is_refused_by_a_wrong_schedule_in_code(tmp_path: Path) -> None:
    code = JOBS + BEAT.replace('every="1s"', 'cron="0 3 * * *", every="1s"')
    with pytest.raises(DaemonError, match=r"scripts\.beat\.every: cron and every contradict"), Daemon(tmp_path, code):
        pass


def test_what_the_code_says_holds_on_when_scheduler_or_master_dies(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS + BEAT) as served:
        wait_ran(served, 1)
        (scheduler,) = served.children("rocksyd: scheduler")
        os.kill(scheduler, signal.SIGKILL)
        gone(scheduler)
        wait_ran(served, len(wait_ran(served, 1)) + 2)
        master = served.master_pid
        os.kill(master, signal.SIGKILL)
        gone(master)
        wait_ran(served, len(wait_ran(served, 1)) + 2)
        talk = served.talk()
        wait_ready(talk, "scheduler")
        assert listed(talk)["beat"]["source"] == "code"
        assert len(talk.rpc("schedule.versions", name="beat")) == 1


FILE = '[scripts.yearly]\ntarget = "tick"\ncron = "0 5 29 2 *"\n'


def test_the_configuration_comes_before_the_code(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS + YEARLY, parts={"top": FILE}) as served:
        talk = served.talk()
        shown = talk.rpc("schedule.show", name="yearly")
        assert (shown["source"], shown["when"], shown["target"]) == ("file", "0 5 29 2 *", "tick")
        assert [one["source"] for one in shown["shadowed"]] == ["code"]


def test_two_jobs_cannot_be_one_script(tmp_path: Path) -> None:
    twice = YEARLY + YEARLY.replace("def yearly", "def Yearly")
    said = r"there is a script 'yearly' at .* already; give one of the two another name"
    with pytest.raises(DaemonError, match=said), Daemon(tmp_path, JOBS + twice):
        pass


def test_scripts_are_applied_by_the_command_and_only_their_source_changes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[scripts.often]\ntarget = "tick"\nevery = "1s"\n[scripts.seldom]\ntarget = "tick"\ncron = "0 3 29 2 *"\n')

    def rocksyd(*words: str, status: int = 0) -> str:
        assert run_command(["--address", served.address, "schedule", *words]) == status
        said = capsys.readouterr()
        return said.out + said.err

    with Daemon(tmp_path, JOBS + YEARLY, parts={"top": "[scheduler]\n"}) as served:
        talk = served.talk()
        shown = rocksyd("apply", str(path), "--diff")
        assert "often  new" in shown
        assert "  +every = 1.0" in shown
        assert rocksyd("diff", str(path)) == shown
        assert list(listed(talk)) == ["yearly"]
        assert "often  new" in rocksyd("apply", str(path))
        assert listed(talk)["often"]["source"] == "api"
        assert wait_ran(served, 1)[0].startswith("often@")
        path.write_text('[scripts.often]\ntarget = "tick"\ncron = "0 3 29 2 *"\n')
        assert 'often  changed\n  -every = 1.0\n  +cron = "0 3 29 2 *"\n' in rocksyd("apply", str(path))
        assert "seldom  removed" in rocksyd("apply", str(path), "--remove-others")
        assert list(listed(talk)) == ["often", "yearly"]
        versions = json.loads(rocksyd("versions", "often", "--json"))
        assert [one["number"] for one in versions] == [2, 1]
        assert versions[0]["author"] == pwd.getpwuid(os.geteuid()).pw_name
        assert "seldom" in rocksyd("versions", "seldom")
        path.write_text('[scripts.yearly]\ntarget = "tick"\nevery = "5m"\n')
        assert "only its source changes a script: yearly (code: " in rocksyd("apply", str(path), status=1)
        path.write_text('[scripts.often]\ntarget = "tick"\ncron = "61 * * * *"\n')
        assert f"{path}:3: scripts.often.cron: the minute is '61'" in rocksyd("apply", str(path), status=2)
        path.write_text('[scripts.often]\ncommand = ["touch", "x"]\n')
        assert f"{path}:1: scripts.often.command: a command line stands in rocksyd.toml only" in rocksyd(
            "apply", str(path), status=2
        )
        served.restart()
        assert listed(served.talk())["often"]["when"] == "0 3 29 2 *"


def test_nothing_can_be_applied_to_a_scheduler_that_only_the_code_has_called(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS + YEARLY) as served:
        refused = error(served.talk(), "schedule.apply", text='[scripts.a]\ntarget = "tick"\n')
        assert refused["code"] == -32003
        assert "add [scheduler] to rocksyd.toml" in json.dumps(refused)
