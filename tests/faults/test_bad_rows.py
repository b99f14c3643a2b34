"""P2, P12: rows of the journal that cannot be read: set aside with a sentence, and everything else is served."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until
from tests.restart.stage import JOBS as RESTARTED
from tests.restart.stage import gate
from tests.unit.test_journal_rows import BAD, spoil

JOBS = """
from rocksyd import job

@job
def echo(*args):
    return list(args)
"""
CHOSEN = ["no JSON", "bytes", "no text", "no object", "no key", "deep", "deeper", "an error that is a number", "another state"]


def journal(daemon: Daemon) -> str:
    return str(next(daemon.config.parent.glob("var/journal.sqlite")))


def others_are_served(daemon: Daemon, rows: int) -> None:
    """The other runs are there, new ones run, and health counts what was set aside."""
    talk = daemon.talk()
    keys = {record["key"] for record in talk.rpc("list", limit=1000)}
    assert {"ended", "waiting"} <= keys
    assert "bad" not in keys
    for method in ("status", "why", "logs"):
        assert talk.ask(f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"key":"bad"}}}}')["error"]["code"] == -32001
    assert talk.ask('check {"hash":17}') == {"error_text": "Hash not found"}
    assert talk.rpc("status", key="waiting")["state"] == "waiting"
    assert talk.rpc("call", target="echo", params=[1])["result"] == [1]
    assert talk.rpc("subscribe", position=0)["subscribed"]
    talk.close()
    health = daemon.talk().rpc("health")
    assert (health["ok"], health["set_aside"]) == (True, rows)
    assert daemon.log().count("row 'bad' of table runs cannot be read (") == 1
    with closing(sqlite3.connect(journal(daemon))) as db:
        assert db.execute("SELECT count(*) FROM set_aside WHERE key = 'bad'").fetchone() == (1,)


def prepared(daemon: Daemon) -> None:
    talk = daemon.talk()
    talk.rpc("call", target="echo", params=[1], key="ended")
    talk.rpc("run", target="echo", params=[1], key="waiting", delay="1h")
    talk.close()


@pytest.mark.parametrize("what", CHOSEN)
@pytest.mark.parametrize("ended", [0, 1])
def test_p12_one_bad_row_is_set_aside_and_the_daemon_starts_and_serves(tmp_path: Path, what: str, ended: int) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        prepared(daemon)
        daemon.stop()
        spoil(journal(daemon), ended, BAD[what])
        with closing(sqlite3.connect(journal(daemon))) as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('service', 'not JSON')")
            db.execute("INSERT INTO restarts (data) VALUES ('[5]')")
            db.commit()
        daemon.start()
        if ended:
            daemon.talk().rpc("list", limit=1000)
        daemon.talk().rpc("stats")
        assert "of table restarts cannot be read (" in daemon.log()
        others_are_served(daemon, 2)


@pytest.mark.parametrize("how", ["restart", "crash", "nothing"])
def test_p12_rows_that_become_bad_while_the_daemon_serves_are_set_aside(tmp_path: Path, how: str) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        prepared(daemon)
        spoil(journal(daemon), 1, BAD["no JSON"])
        if how == "restart":
            assert daemon.restart() == {"error_text": "Restarted successfully"}
        elif how == "crash":
            before = daemon.master_pid
            os.kill(before, signal.SIGKILL)
            until(lambda: [pid for pid in daemon.children("rocksyd: master") if pid != before], "another master")
        daemon.talk().rpc("list", limit=1000)
        others_are_served(daemon, 1)


def test_p12_a_worker_whose_run_cannot_be_read_any_longer_serves_on(tmp_path: Path) -> None:
    with (
        Daemon(tmp_path, RESTARTED, parts={"pool": 'pm = "static"\nmax_workers = 1\nmax_jobs = 9'}) as daemon,
        gate(tmp_path) as held,
    ):
        talk = daemon.talk()
        talk.rpc("run", target="gate", params=[str(held.path)], key="lost")
        held.wait_entered()
        with closing(sqlite3.connect(journal(daemon))) as db:
            db.execute("UPDATE runs SET data = '{' WHERE key = 'lost'")
            db.commit()
        assert daemon.restart() == {"error_text": "Restarted successfully"}
        assert talk.rpc("health")["set_aside"] == 1
        held.open()
        assert talk.rpc("call", target="add", params=[1, 2])["result"] == 3
        until(lambda: talk.rpc("pools")[0]["busy"] == 0, "nobody to be busy")
