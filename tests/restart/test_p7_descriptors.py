"""P7: After a restart the open descriptors equal the manifest; a job sees none of the daemon's. And nothing piles up."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import command_line, descendants, until
from tests.restart.stage import IDLE_POOL, JOBS, gate, kinds, manifest, many, records, restart


def test_p7_after_a_restart_every_process_has_open_what_the_manifest_says(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": IDLE_POOL}) as daemon:
        talk = daemon.talk()
        others = [daemon.talk() for _ in range(7)]
        for other in others:
            other.ask("hello")
        with gate(tmp_path) as held:
            talk.rpc("run", target="gate", key="old", params=[str(held.path)])
            held.wait_entered()
            for _ in range(3):
                assert talk.ask("restart") == {"error_text": "Restarted successfully"}
            daemon.wait_shelved(8)
            manifest(daemon, talk, connections=8, old_zygotes=1, workers=1)
            for other in others[:4]:
                other.close()
            held.open()
            talk.rpc("wait", key="old")
            manifest(daemon, talk, connections=4, old_zygotes=0, workers=0)
        assert talk.ask("reload") == {"error_text": "Reloaded successfully"}
        manifest(daemon, talk, connections=4, old_zygotes=0, workers=0)


@pytest.mark.parametrize("max_jobs", [1, 0])
def test_p7_a_job_sees_none_of_the_daemons_descriptors(tmp_path: Path, max_jobs: int) -> None:
    pool = f"{IDLE_POOL}\nmax_jobs = {max_jobs}"
    with Daemon(tmp_path, JOBS, parts={"pool": pool}) as daemon:
        talk = daemon.talk()
        for _ in range(3):
            for _ in range(2):
                own, inherited = talk.rpc("call", target="descriptors")["result"]
                channel = [target for number, target in own.items() if int(number) > 2 and not target.startswith("/proc/")]
                assert [target.partition(":")[0] for target in channel] == ["socket"]
                assert own["0"] == "/dev/null"
                assert own["1"] == own["2"]
                assert own["1"].startswith(str(tmp_path / "var" / "output"))
                assert inherited == ["0", "1", "2"]
            restart(daemon)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_p7_many_restarts_and_the_jobs_of_all_of_them_leave_nothing_behind(tmp_path: Path) -> None:
    """As the original does it: 200 jobs over the first twenty, every one accounted for; nothing grows over the rest.

    What a restart leaves in the keeper is seen from 4 KB on, however many there are: what it is allowed to grow goes with them.
    """
    rest = many(30, 280)
    with Daemon(tmp_path, JOBS, parts={"pool": IDLE_POOL}) as daemon:
        talk = daemon.talk()
        for turn in range(20):
            talk.send(
                *(f'run {{"hash":{10 * turn + n},"class":"Original","params":{json.dumps([0] * n)}}}' for n in range(10)),
                "restart",
            )
            assert [json.loads(talk.line())["error_text"] for _ in range(11)] == ["OK"] * 10 + ["Restarted successfully"]
        for key in range(200):
            ended = talk.rpc("wait", key=str(key))
            assert (ended["retcode"], ended["attempt"]) == (key % 10, 1)
        manifest(daemon, talk, connections=1, old_zygotes=0, workers=0)
        until(lambda: "" not in _open(daemon), "processes that have ended to be reaped")
        before, memory = _open(daemon), _memory(daemon.pid)
        for _ in range(rest):
            talk.send("restart")
            assert json.loads(talk.line()) == {"error_text": "Restarted successfully"}
        manifest(daemon, talk, connections=1, old_zygotes=0, workers=0)
        until(lambda: "" not in _open(daemon), "processes that have ended to be reaped")
        assert _open(daemon) == before
        assert _memory(daemon.pid) < memory + rest * 4096
        assert talk.rpc("stats")["restart_count"] == 20 + rest
        assert all(one["ok"] for one in records(talk))
        assert talk.ask('check {"hash":7}') == {"retcode": 7}


def _open(daemon: Daemon) -> dict[str, Counter[str]]:
    """Descriptors of every process, by its title without the generation. No worker is there: ``manifest`` has seen to it."""
    return {command_line(pid).partition("@")[0]: kinds(daemon, pid) for pid in [daemon.pid, *descendants(daemon.pid)]}


def _memory(pid: int) -> int:
    """Bytes that are this process's own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def test_p7_what_a_failed_take_over_shelved_is_gone_again(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": IDLE_POOL}) as daemon:
        talk = daemon.talk()
        talk.ask("hello")
        daemon.wait_shelved(1)
        manifest(daemon, talk, connections=1, old_zygotes=0, workers=0)
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace('d.sock"]', 'd.sock", "unix://new.sock", "tcp://192.0.2.1:9"]\nauth = "none"'))
        assert talk.ask("restart")["error_text"].startswith("Restart failed")
        daemon.config.write_text(text)
        (daemon.app / "jobs.py").write_text("raise RuntimeError")
        assert talk.ask("restart")["error_text"].startswith("Restart failed")
        assert talk.ask("reload")["error_text"].startswith("Reload failed")
        manifest(daemon, talk, connections=1, old_zygotes=0, workers=0)
