"""What a restart and a reload are for: new code runs from then on, old jobs end with the code they began with."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import edited, until
from tests.restart.stage import FAST, JOBS, Unharmed, gate, order, records, zygotes

NEW = JOBS.replace("VERSION = 1", "VERSION = 2  # the new code")


@pytest.mark.parametrize("kind", ["restart", "reload"])
def test_new_code_runs_afterwards_and_old_jobs_end_with_the_old_code(tmp_path: Path, kind: str) -> None:
    with Daemon(tmp_path, JOBS) as daemon, gate(tmp_path, "a") as one, gate(tmp_path, "b") as two:
        talk = daemon.talk()
        master, (zygote,) = daemon.master_pid, zygotes(talk).values()
        talk.rpc("run", target="gate", key="old", params=[str(one.path)])
        one.wait_entered()
        (daemon.app / "jobs.py").write_text(NEW)
        assert talk.rpc("call", target="version")["result"] == 1
        assert talk.ask(kind) == {"error_text": f"{kind.capitalize()}ed successfully"}
        assert talk.rpc("call", target="version")["result"] == 2
        talk.rpc("run", target="gate", key="new", params=[str(two.path)])
        two.wait_entered()
        assert {record["key"]: record["generation"] for record in talk.rpc("list", state="running")} == {"old": 1, "new": 2}
        assert zygote in zygotes(talk).values()
        two.open()
        one.open()
        assert talk.rpc("wait", key="old")["result"] == [1, "go"]
        assert talk.rpc("wait", key="new")["result"] == [2, "go"]
        until(lambda: zygote not in zygotes(talk).values(), "the old zygote to leave")
        until(lambda: not os.path.exists(f"/proc/{zygote}"), "its process to be gone")
        stats = talk.rpc("stats")
        assert (stats["generation"], stats["restart_count"]) == (2, 1)
        assert (stats["master_pid"] == master) == (kind == "reload")


def test_a_reload_that_fails_changes_nothing(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, Unharmed(daemon, tmp_path) as unharmed:
        talk = daemon.talk()
        for text, reason in (("def broken(:", "SyntaxError"), ("import os; os._exit(3)", "exited with status 3")):
            with edited(daemon.app / "jobs.py", text):
                assert reason in talk.ask("reload")["error_text"]
                refusal = json.loads((talk.send(order("reload", 1)), talk.line())[1])["error"]
                assert refusal["code"] == -32005
                assert reason in refusal["message"]
        with edited(daemon.config, daemon.config.read_text() + "\nunknown = 1\n"):
            assert "unknown" in talk.ask("reload")["error_text"]
        assert unharmed._state() == unharmed.before
        assert [one["ok"] for one in records(talk)] == [False] * 5
        assert talk.ask("reload") == {"error_text": "Reloaded successfully"}
        unharmed.repaired()


def test_a_reload_refuses_what_only_a_restart_can_change_and_says_so(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace('d.sock"]', 'd.sock", "unix://second.sock"]'))
        reply = talk.ask("reload")["error_text"]
        assert "listen" in reply
        assert "use restart" in reply
        assert not (tmp_path / "second.sock").exists()
        assert talk.ask("restart") == {"error_text": "Restarted successfully"}
        assert len(talk.rpc("health")["listen"]) == 2
        assert (tmp_path / "second.sock").exists()
        daemon.config.write_text(text)
        assert talk.ask("restart") == {"error_text": "Restarted successfully"}
        assert len(talk.rpc("health")["listen"]) == 1
        assert not (tmp_path / "second.sock").exists()


@pytest.mark.parametrize("kind", ["restart", "reload"])
def test_applications_come_and_go_with_the_configuration(tmp_path: Path, kind: str) -> None:
    done = {"error_text": f"{kind.capitalize()}ed successfully"}
    with Daemon(tmp_path, JOBS) as daemon, gate(tmp_path) as held:
        talk = daemon.talk()
        text = daemon.config.read_text()
        daemon.config.write_text(
            text + '\n[apps.second]\npath = "app"\njobs = ["jobs"]\n[apps.second.pool]\npm = "static"\nmax_workers = 1\n'
        )
        assert talk.ask(kind) == done
        assert talk.rpc("call", target="version", app="second")["result"] == 1
        talk.rpc("run", target="gate", app="second", key="runs", params=[str(held.path)])
        talk.rpc("run", target="version", app="second", key="waits")
        held.wait_entered()
        daemon.config.write_text(text)
        assert talk.ask(kind) == done
        lost = talk.rpc("wait", key="waits")
        assert lost["outcome"] == "lost"
        assert "no application 'second'" in json.dumps(lost)
        held.open()
        assert talk.rpc("wait", key="runs")["result"] == [1, "go"]
        until(lambda: all("app@" in name for name in zygotes(talk)), "the zygote of what is gone to leave")
        assert talk.rpc("health")["ok"]
        assert [pool["pool"] for pool in talk.rpc("pools")] == ["app"]
        assert talk.rpc("call", target="version")["result"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_stop_ends_what_runs_and_keeps_what_waits_for_the_next_start(tmp_path: Path, number: int) -> None:
    pool = 'pm = "static"\nmax_workers = 1\ngrace = "30s"'
    with Daemon(tmp_path, JOBS, parts={"pool": pool}) as daemon, gate(tmp_path) as held:
        talk = daemon.talk()
        talk.rpc("run", target="gate", key="runs", params=[str(held.path)])
        talk.rpc("run", target="version", key="waits")
        held.wait_entered()
        talk.send(order("wait", 1, key="runs"))
        daemon.stop(number)
        ended = json.loads(talk.line())["result"]
        assert (ended["outcome"], ended["signal"]) == ("cancelled", 15)
        assert talk.line() == b""
        assert not (tmp_path / "d.sock").exists()
        daemon.start()
        with daemon.client() as client:
            assert client.request("wait", {"key": "waits"}, wait=True)["result"] == 1
            assert client.request("status", {"key": "runs"})["outcome"] == "cancelled"
            assert client.request("stats")["generation"] == 2


def test_a_second_sigterm_stops_now(tmp_path: Path) -> None:
    with (
        Daemon(tmp_path, JOBS, parts={"pool": FAST.replace('"30s"', '"1h"')}) as daemon,
        gate(tmp_path) as held,
    ):
        talk = daemon.talk()
        talk.rpc("run", target="deaf", key="deaf", params=[str(held.path)])
        held.wait_entered()
        os.kill(daemon.pid, signal.SIGTERM)
        until(lambda: "stopping (ordered by SIGTERM)" in daemon.log(), "the first to be heard")
        assert talk.rpc("status", key="deaf")["state"] == "running"
        refused = talk.ask("restart")["error_text"]
        assert "stopping" in refused
        daemon.stop(signal.SIGTERM)
        daemon.start()
        with daemon.client() as client:
            ended = client.request("status", {"key": "deaf"})
        assert (ended["outcome"], ended["signal"]) == ("cancelled", 9)


def test_sigquit_drains(tmp_path: Path) -> None:
    pool = 'pm = "static"\nmax_workers = 1\ngrace = "30s"'
    with Daemon(tmp_path, JOBS, parts={"pool": pool}) as daemon, gate(tmp_path) as held:
        talk = daemon.talk()
        talk.rpc("run", target="gate", key="runs", params=[str(held.path)])
        talk.rpc("run", target="version", key="waits")
        held.wait_entered()
        talk.send(order("wait", 1, key="runs"), order("wait", 2, key="waits"))
        os.kill(daemon.pid, signal.SIGQUIT)
        until(lambda: "draining" in daemon.log(), "it to drain")
        other = daemon.talk()
        assert other.ask('run {"hash":5,"class":"version"}') == {"error_text": "Too busy"}
        held.open()
        assert {reply["id"]: reply["result"]["result"] for reply in (json.loads(talk.line()), json.loads(talk.line()))} == {
            1: [1, "go"],
            2: 1,
        }
        daemon.wait(0)


def test_a_job_that_ends_during_a_restart_is_reported_once(tmp_path: Path) -> None:
    """200 jobs of all outcomes over 20 restarts, as the original is measured."""
    with Daemon(tmp_path, JOBS) as daemon:
        talk, news = daemon.talk(), daemon.talk()
        assert news.rpc("subscribe", events=["run.ended"])
        for turn in range(20):
            talk.send(*(f'run {{"hash":{10 * turn + n},"class":"leave","params":[{n}]}}' for n in range(10)), "restart")
        for _ in range(20):
            assert [json.loads(talk.line())["error_text"] for _ in range(11)] == ["OK"] * 10 + ["Restarted successfully"]
        told = [json.loads(news.line())["params"] for _ in range(200)]
        assert sorted(int(one["key"]) for one in told) == list(range(200))
        assert all(one["retcode"] == int(one["key"]) % 10 and one["attempt"] == 1 for one in told)
        for key in range(200):
            assert talk.ask(f'check {{"hash":{key}}}') == {"retcode": key % 10}
        news.send(order("health", 1))
        assert json.loads(news.line())["id"] == 1
