"""Scripts are run at their times by a real daemon, each tick once, whatever dies or is replaced meanwhile."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rocksyd.cli.commands import run_command
from rocksyd.testing.daemon import POOL, Conversation, DaemonError, until
from tests.schedule.stage import companion, daemon, error, gone, open_gate, ran, scheduler, ticks, wait_ran, wait_ready

EVERY = '[scripts.beat]\ntarget = "tick"\nevery = "1s"\n'
NIGHTLY = '[scripts.nightly]\ntarget = "tick"\nparams = ["a"]\ncron = "0 3 29 2 *"\ntimezone = "Europe/Berlin"\nowner = "shop"\n'


def accounted(talk: Conversation, name: str, seconds: int = 1) -> list[str]:
    """That no tick of an interval is missing and none is there twice; returns the keys of those that were run."""
    found = ticks(talk, name)
    at = datetime.fromisoformat(found[0]["first"]).timestamp()
    for one in found:
        assert datetime.fromisoformat(one["first"]).timestamp() == at, "no hole, and none twice"
        at = datetime.fromisoformat(one["last"]).timestamp() + seconds
        assert one["count"] == (at - datetime.fromisoformat(one["first"]).timestamp()) / seconds
        assert one["what"] == "run" or one["reason"]
    return [one["key"] for one in found if one["what"] == "run"]


def test_a_tick_is_a_run_under_its_key_that_knows_its_nominal_time(tmp_path: Path) -> None:
    with daemon(tmp_path, EVERY) as served:
        talk = served.talk()
        first, second = wait_ran(served, 2)[:2]
        record = talk.rpc("wait", key=first)
        time = first.removeprefix("beat@")
        assert record["tick"] == {"script": "beat", "time": time}
        assert record["labels"] == {"script": "beat"}
        assert record["result"] == ["beat", time.replace("Z", "+00:00"), []]
        moments = [datetime.fromisoformat(key.partition("@")[2]) for key in (first, second)]
        assert (moments[1] - moments[0]).total_seconds() >= 1
        assert companion(talk, "scheduler")["state"] == "ready"
        until(lambda: second in accounted(talk, "beat"), "the second tick to be written down")
        assert first in accounted(talk, "beat")
        assert talk.rpc("subscribe", labels={"script": "beat"})["subscribed"]


def test_scripts_in_files_of_their_own_are_in_force_from_a_restart_on_and_no_crash_changes_them(tmp_path: Path) -> None:
    with daemon(tmp_path, NIGHTLY) as served:
        folder = served.config.parent / "scripts.d"
        folder.mkdir()
        (folder / "shop.toml").write_text('[scripts.prices]\ntarget = "tick"\nevery = "5m"\n')
        assert served.restart() == {"error_text": "Restarted successfully"}
        assert [row["name"] for row in served.talk().rpc("schedule.list")] == ["nightly", "prices"]
        (folder / "shop.toml").write_text('[scripts.prices]\ntarget = "tick"\ncron = "61 * * * *"\n')
        refused = json.dumps(served.restart())
        assert "/scripts.d/shop.toml:3: scripts.prices.cron: the minute is '61'" in refused
        master = served.master_pid
        os.kill(master, signal.SIGKILL)
        gone(master)
        talk = served.talk()
        wait_ready(talk, "scheduler")
        assert [row["name"] for row in talk.rpc("schedule.list")] == ["nightly", "prices"]
        (folder / "shop.toml").unlink()
        assert served.restart() == {"error_text": "Restarted successfully"}
        assert [row["name"] for row in served.talk().rpc("schedule.list")] == ["nightly"]


def test_there_is_no_scheduler_where_no_script_is_configured(tmp_path: Path) -> None:
    with daemon(tmp_path, "") as served:
        assert served.children("rocksyd: scheduler") == []
        assert error(served.talk(), "schedule.list")["code"] == -32601


def test_what_was_run_is_known_when_its_record_is_gone_and_after_the_master_was_killed(tmp_path: Path) -> None:
    with daemon(tmp_path, NIGHTLY) as served:
        talk = served.talk()
        tick = {"script": "other", "time": "2026-01-31T03:00:00Z"}
        key = talk.rpc("run", target="tick", tick=tick)["key"]
        assert key == "other@2026-01-31T03:00:00Z"
        talk.rpc("wait", key=key)
        assert talk.rpc("run", target="tick", tick=tick, params=["changed"])["params"] == []
        talk.rpc("free", key=key)
        os.kill(served.master_pid, signal.SIGKILL)
        with served.client() as client:
            assert client.request("run", {"target": "tick", "tick": tick}) == {"key": key, "known": True}
        older = error(served.talk(), "run", target="tick", tick={**tick, "time": "2026-01-31T02:00:00Z"})
        assert (older["code"], older["data"]["floor"]) == (-32003, tick["time"])
        assert ran(served) == [key]


@pytest.mark.parametrize("victim", ["scheduler", "master", "restart"])
def test_whoever_is_killed_or_replaced_each_tick_is_run_once(tmp_path: Path, victim: str) -> None:
    with daemon(tmp_path, EVERY) as served:
        for _ in range(3):
            wait_ran(served, len(ran(served)) + 1)
            if victim == "restart":
                assert served.restart() == {"error_text": "Restarted successfully"}
            else:
                pid = scheduler(served) if victim == "scheduler" else served.master_pid
                os.kill(pid, signal.SIGKILL)
                gone(pid)
        wait_ran(served, len(ran(served)) + 2)
        talk = served.talk()
        until(lambda: companion(talk, "scheduler")["state"] == "ready", "the scheduler to be ready")
        begun = Counter(ran(served))
        assert set(begun.values()) == {1}
        until(lambda: begun.keys() <= set(accounted(talk, "beat")), "all that was run to be written down")


def test_two_runs_of_a_script_do_not_overlap_and_what_is_left_out_says_so(tmp_path: Path) -> None:
    with daemon(tmp_path, EVERY.replace('"tick"', '"gate"')) as served:
        talk = served.talk()
        (first,) = wait_ran(served, 1)
        until(lambda: len(ticks(talk, "beat")) >= 3, "two ticks that are left out")
        assert ticks(talk, "beat")[1]["what"] == "overlap"
        assert ticks(talk, "beat")[1]["reason"] == f'{first} still runs, and overlap = "skip"'
        open_gate(served)
        assert len(set(wait_ran(served, 2))) == 2
        accounted(talk, "beat")
        open_gate(served)


def test_a_script_is_run_paused_and_resumed_by_hand(tmp_path: Path) -> None:
    with daemon(tmp_path, NIGHTLY + EVERY) as served:
        talk = served.talk()
        record = talk.rpc("schedule.run", name="nightly")
        assert record["key"].startswith("nightly!")
        assert talk.rpc("wait", key=record["key"])["result"][2] == ["a"]
        wait_ran(served, 2)
        assert talk.rpc("schedule.pause", name="beat") == {"name": "beat", "paused": True}
        (row,) = [row for row in talk.rpc("schedule.list") if row["name"] == "beat"]
        assert (row["paused"], row["next"]) == (True, None)
        served.restart()
        before = len(ticks(talk, "beat"))
        now = datetime.now(UTC)
        until(lambda: (datetime.now(UTC) - now).total_seconds() > 2, "two seconds")
        assert len(ticks(talk, "beat")) == before
        assert talk.rpc("schedule.resume", name="beat")["left_out"] >= 2
        wait_ran(served, len(ran(served)) + 1)
        accounted(talk, "beat")
        assert "paused" in [one["what"] for one in ticks(talk, "beat")]


def test_a_run_that_is_refused_for_good_is_written_down_with_the_reason(tmp_path: Path) -> None:
    with daemon(tmp_path, EVERY.replace('"tick"', '"nothing"')) as served:
        talk = served.talk()
        until(lambda: len(ticks(talk, "beat")) >= 2, "two ticks")
        assert ticks(talk, "beat")[0]["what"] == "refused"
        assert "no job is called 'nothing'" in ticks(talk, "beat")[0]["reason"]
        accounted(talk, "beat")


def test_a_wrong_expression_refuses_the_start_and_the_restart_with_its_line(tmp_path: Path) -> None:
    with daemon(tmp_path, NIGHTLY) as served:
        before = scheduler(served)
        served.config.write_text(served.config.read_text().replace('"0 3 29 2 *"', '"0 25 * * *"'))
        answer = served.restart()["error_text"]
        assert answer.startswith("Restart failed: companion scheduler: ")
        assert "rocksyd.toml:6: scripts.nightly.cron: the hour is '25', and may be 0-23" in answer
        assert scheduler(served) == before
    other = tmp_path / "other"
    with pytest.raises(DaemonError, match="the hour is '25'"), daemon(other, NIGHTLY.replace("0 3 29 2", "0 25 29 2")):
        pass


def test_what_is_shown_of_it_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def rocksyd(*words: str) -> str:
        assert run_command(["--address", served.address, "schedule", *words]) == 0
        return capsys.readouterr().out

    with daemon(tmp_path, NIGHTLY) as served:
        (row,) = json.loads(rocksyd("list", "--json"))
        assert row["name"] == "nightly"
        assert row["owner"] == "shop"
        assert (row["last"], row["paused"]) == (None, False)
        following = datetime.fromisoformat(row["next"])
        assert (following.month, following.day, following.hour, row["next"][-6:]) == (2, 29, 3, "+01:00")
        assert [one["at"] for one in json.loads(rocksyd("next", "--json"))] == [row["next"]]
        assert len(json.loads(rocksyd("next", "nightly", "--count", "3", "--json"))) == 3
        assert f"{following:%Y-%m-%d 03:00:00} +01:00" in rocksyd("list")
        assert "Europe/Berlin" in rocksyd("next")
        assert "Europe/Berlin" in rocksyd("next", "nightly", "--explain")
        explained = json.loads(rocksyd("next", "nightly", "--explain", "--json"))
        assert {change["effect"] for change in explained["changes"]} == {"nothing changes"}
        assert len(explained["changes"]) == 4
        key = rocksyd("run", "nightly").strip()
        served.talk().rpc("wait", key=key)
        assert "nightly is paused" in rocksyd("pause", "nightly")
        assert "paused" in rocksyd("show", "nightly")
        assert rocksyd("resume", "nightly") == "nightly goes on\n"
        assert run_command(["--address", served.address, "schedule", "show", "daily"]) == 1
        assert "there is no script 'daily'" in capsys.readouterr().err
        assert run_command(["--address", served.address, "schedule", "pause"]) == 2


def test_missed_ticks_of_a_daemon_that_was_stopped(tmp_path: Path) -> None:
    served = daemon(tmp_path, EVERY)
    with served:
        wait_ran(served, 1)
        served.stop()
        before = len(ran(served))
        now = datetime.now(UTC)
        until(lambda: (datetime.now(UTC) - now).total_seconds() > 3, "three seconds")
        served.start()
        wait_ran(served, before + 2)
        talk = served.talk()
        accounted(talk, "beat")
        missed = [one for one in ticks(talk, "beat") if one["what"] == "missed"]
        assert len(missed) == 1
        assert missed[0]["count"] >= 2
        assert missed[0]["reason"] == 'nobody was there when it was due, and misfire = "once"'


def test_what_was_not_run_is_filled_in_and_what_was_is_run_again_only_where_that_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daily = '[scripts.daily]\ntarget = "tick"\ncron = "30 2 * * *"\ntimezone = "Europe/Berlin"\n'
    with daemon(tmp_path, daily) as served:
        talk = served.talk()
        days = {"name": "daily", "from": "2026-03-28", "to": "2026-03-30"}
        keys = [f"daily@2026-03-{time}Z" for time in ("28T01:30:00", "29T01:00:00", "30T00:30:00")]
        assert talk.rpc("schedule.backfill", **days) == {
            "name": "daily",
            "ordered": keys,
            "again": [],
            "known": [],
            "refused": {},
        }
        for key in keys:
            assert talk.rpc("wait", key=key)["outcome"] == "ok"
        assert talk.rpc("schedule.backfill", **days)["known"] == keys
        talk.rpc("free", key=keys[0])
        again = talk.rpc("schedule.backfill", **days, again=True)
        assert (again["ordered"], again["again"], again["known"]) == ([], keys[1:], keys[:1])
        assert talk.rpc("wait", key=keys[2])["attempt"] == 2
        assert ran(served) == [*keys, *keys[1:]]
        assert error(talk, "schedule.backfill", name="daily", **{"from": "soon", "to": "2026-03-30"})["code"] == -32602
        assert (
            "1,000 can be filled at once"
            in error(talk, "schedule.backfill", name="daily", **{"from": "2000-01-01", "to": "2026-03-30"})["message"]
        )
        assert (
            run_command(["--address", served.address, "schedule", "backfill", "daily", "2026-02-01T00:00:00Z", "2026-02-02"]) == 0
        )
        assert capsys.readouterr().out == "daily@2026-02-01T01:30:00Z  ordered\ndaily@2026-02-02T01:30:00Z  ordered\n"


def test_the_runs_of_a_script_are_ended_together(tmp_path: Path) -> None:
    with daemon(tmp_path, EVERY.replace('"tick"', '"gate"') + 'overlap = "buffer_one"\n') as served:
        talk = served.talk()
        until(lambda: len(talk.rpc("schedule.show", name="beat")["going"]) == 2, "a run that goes on and one that waits")
        talk.rpc("schedule.pause", name="beat")
        going = talk.rpc("schedule.show", name="beat")["going"]
        assert talk.rpc("schedule.kill", name="beat")["ended"][-2:] == going
        assert [talk.rpc("wait", key=key)["outcome"] for key in going] == ["cancelled", "cancelled"]


COMMANDS = """
[scripts.word]
command = ["sh", "-c", "echo said $WORD; echo wrong >&2; exit 3"]
env = { WORD = "hello" }
[scripts.sleeper]
command = ["sleep", "1000"]
max_time = "100ms"
[scripts.deaf]
command = ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"]
[scripts.gone]
command = ["/no/such/program"]
"""


def test_any_command_line_is_a_script_with_the_output_limits_and_record_of_a_job(tmp_path: Path) -> None:
    with daemon(tmp_path, COMMANDS, pool=POOL.replace('"30s"', '"1s"')) as served, served.client() as client:

        def ended(name: str) -> dict[str, object]:
            key = client.request("schedule.run", {"name": name})["key"]
            record: dict[str, object] = client.request("wait", {"key": key})
            return record

        word = ended("word")
        assert (word["outcome"], word["retcode"], word["target"]) == ("failed", 3, "command:word")
        assert client.request("logs", {"key": word["key"]})["text"] == "said hello\nwrong\n"
        assert ended("sleeper")["outcome"] == "timeout"
        assert "'/no/such/program' cannot be started: No such file or directory" in str(ended("gone")["error"])
        key = client.request("schedule.run", {"name": "deaf"})["key"]
        until(lambda: client.request("logs", {"key": key})["text"] == "deaf\n", "the program to be deaf")
        client.request("terminate", {"key": key})
        assert client.request("wait", {"key": key})["outcome"] == "cancelled", "KILL after its grace"
        assert client.request("retry", {"key": word["key"]})["attempt"] == 2
        assert client.request("wait", {"key": word["key"]})["retcode"] == 3


def test_clients_cannot_say_what_the_command_is(tmp_path: Path) -> None:
    with daemon(tmp_path, COMMANDS) as served:
        talk = served.talk()
        record = talk.rpc("run", target="command:word", params={"command": ["touch", "here"]}, key="k")
        assert record["params"]["command"][0] == "sh"
        assert error(talk, "run", target="command:other")["code"] in (-32001, -32003)
        assert error(talk, "run", target="rocksyd.worker.command:run", params={"command": ["touch", "x"]})["code"] in (
            -32001,
            -32003,
        )
