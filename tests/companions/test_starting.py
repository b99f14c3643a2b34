"""A companion is ready before its daemon serves; one that cannot be refuses the start, or the restart, with the reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rocksyd.testing.daemon import DaemonError, command_line, edited, until
from tests.companions.stage import METRICS, companion, daemon, error, gone, wait_ready
from tests.restart.stage import restart

REASONS = {
    "cannot": "companion bell: the bell is broken: mend it",
    "raises": "companion bell: ZeroDivisionError: no bell",
    "dies": "companion bell: its process was killed by SIGKILL",
    "leaves": "companion bell: its process exited with status 0",
    "hangs": "companion bell: it was not ready within 500ms (ready_timeout)",
}


def test_it_is_ready_when_the_daemon_serves(tmp_path: Path) -> None:
    with daemon(tmp_path, top=METRICS) as served:
        talk = served.talk()
        row = companion(talk)
        assert (row["state"], row["restarts"], row["reason"]) == ("ready", 0, None)
        assert command_line(row["pid"]) == "rocksyd: bell"
        assert command_line(companion(talk, "metrics")["pid"]) == "rocksyd: metrics"
        assert talk.rpc("health")["ok"]


@pytest.mark.parametrize("how", REASONS)
def test_a_daemon_whose_companion_cannot_be_ready_does_not_start(tmp_path: Path, how: str) -> None:
    (tmp_path / how).touch()
    served = daemon(tmp_path, 'ready_timeout = "0.5s"' if how == "hangs" else "")
    try:
        with pytest.raises(DaemonError, match="the daemon ended"):
            served.start()
        assert f"cannot start: {REASONS[how]}" in served.log()
    finally:
        served.close()


@pytest.mark.parametrize("how", REASONS)
def test_p3_a_restart_whose_companion_cannot_be_ready_changes_nothing_and_says_why(tmp_path: Path, how: str) -> None:
    with daemon(tmp_path, "#", METRICS) as served:
        talk = served.talk()
        before, master = talk.rpc("health")["companions"], served.master_pid
        (tmp_path / how).touch()
        text = served.config.read_text()
        with edited(served.config, text.replace("#", 'ready_timeout = "0.5s"') if how == "hangs" else text):
            answer = talk.ask("restart")["error_text"]
        assert answer.startswith(f"Restart failed: {REASONS[how]}"), answer
        assert talk.rpc("health")["companions"] == before
        assert served.master_pid == master
        assert talk.rpc("bell.ring")["pid"] == companion(talk)["pid"]
        until(lambda: len(served.children("rocksyd: bell")) == 1, "the companion of the version that failed to be gone")
        (tmp_path / how).unlink()
        restart(served)
        assert companion(talk)["pid"] != before[1]["pid"]
        gone(before[1]["pid"])
        assert talk.rpc("health")["ok"]


def test_p3_a_companion_killed_while_it_starts_refuses_the_restart(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk, ordered = served.talk(), served.talk()
        old = companion(talk)["pid"]
        (tmp_path / "hangs").touch()
        ordered.send("restart")
        until((tmp_path / "hanging").exists, "the new companion to have begun")
        (new,) = (pid for pid in served.children("rocksyd: bell") if pid != old)
        assert talk.rpc("bell.ring")["pid"] == old
        os.kill(new, 9)
        assert b"Restart failed: companion bell: its process was killed by SIGKILL" in ordered.line()
        assert companion(talk)["pid"] == old
        (tmp_path / "hangs").unlink()


def test_what_a_companion_adds_is_part_of_the_protocol(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        answer = talk.rpc("bell.ring", loud=True)
        assert (answer["trusted"], answer["params"]) == (True, {"loud": True})
        assert answer["address"].startswith("unix://")
        assert error(talk, "bell.refuse") == {"code": -32010, "message": "the bell is not rung at night", "data": {"until": 7}}
        failed = error(talk, "bell.fail")
        assert failed["code"] == -32603
        assert "KeyError: 'clapper'" in failed["message"]
        unknown = error(talk, "bell.toll")
        assert unknown["code"] == -32601
        assert "bell.ring" in unknown["data"]
        assert error(talk, "book.read")["code"] == -32601
        described = {method["name"]: method for method in talk.rpc("rpc.discover")["methods"]}
        assert described["bell.gate"]["summary"] == "Does gate"
        assert described["bell.gate"]["params"] == [{"name": "path", "schema": {}}]
        talk.send(json.dumps([{"jsonrpc": "2.0", "id": n, "method": "bell.ring", "params": [n]} for n in range(3)]))
        assert sorted(one["result"]["params"][0] for one in json.loads(talk.line())) == [0, 1, 2]
        talk.send('{"jsonrpc":"2.0","method":"bell.ring"}')  # a notification: nobody is told
        assert talk.rpc("bell.ring")["params"] == {}


def test_a_reload_does_not_touch_companions_and_says_so_when_they_are_to_be_others(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        talk = served.talk()
        pid = companion(talk)["pid"]
        assert talk.ask("reload") == {"error_text": "Reloaded successfully"}
        assert companion(talk)["pid"] == pid
        with edited(served.config, served.config.read_text() + "\n[companions.other]\ntarget = 'bell:serve'\npath = '.'\n"):
            assert "companions changed, and reload is for applications only: use restart" in talk.ask("reload")["error_text"]
        os.kill(pid, 9)
        wait_ready(talk, other_than=pid)  # its title is of the generation that the reload has begun
        restart(served)
        assert talk.rpc("bell.ring")["pid"] == companion(talk)["pid"]


def test_a_companion_that_is_no_longer_configured_leaves(tmp_path: Path) -> None:
    with daemon(tmp_path, top=METRICS) as served:
        talk = served.talk()
        pid = companion(talk)["pid"]
        text = served.config.read_text()
        served.config.write_text(text[: text.index("[companions.bell]")] + text[text.index("[metrics]") :])
        restart(served)
        gone(pid)
        assert error(talk, "bell.ring")["code"] == -32601
        assert [row["name"] for row in talk.rpc("health")["companions"]] == ["metrics"]
