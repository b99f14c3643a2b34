"""What was learned of runs: shown, kept over a restart, and what follows from it."""

from __future__ import annotations

import os
from pathlib import Path

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until

JOBS = """
import os
from rocksyd import job

HERE = os.path.dirname(__file__)

@job
def eat():
    return len(bytearray(64 << 20))

@job
def small():
    return 1

@job
def gate():
    with open(os.path.join(HERE, "gate")) as file:
        return file.read()
"""


def test_no_run_is_begun_that_memory_cannot_hold_and_why_says_so(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"top": 'keep_free = "100T"'}) as served:
        talk = served.talk()
        assert talk.rpc("call", target="eat", key="first")["result"] == 64 << 20, "nobody has seen it yet"
        talk.rpc("run", target="eat", key="second")
        until(lambda: talk.rpc("why", key="second")["reasons"][0]["code"] == "machine_memory", "the shortage to be said")
        reason = talk.rpc("why", key="second")["reasons"][0]
        assert "it will probably need" in reason["text"]
        assert "keep_free" in reason["advice"]
        assert talk.rpc("status", key="second")["waits_for"]["code"] == "machine_memory"
        assert talk.rpc("stats")["runs_short_of_memory"] == 1
        assert talk.rpc("call", target="small")["result"] == 1, "of a job that takes nothing beyond what is shared"
        talk.rpc("run", target="gate", key="guessed", needs_memory="1G")
        until(lambda: talk.rpc("why", key="guessed")["reasons"][0]["code"] == "machine_memory", "what was said to count")
        assert "need 1G of memory, as its needs_memory says" in talk.rpc("why", key="guessed")["reasons"][0]["text"]
        talk.rpc("terminate", key="guessed")
        served.config.write_text(served.config.read_text().replace('keep_free = "100T"', ""))
        talk.rpc("restart")
        assert talk.rpc("wait", key="second")["outcome"] == "ok"
        assert served.log().count("waits: it needs") == 2


def test_what_is_usual_is_kept_over_a_restart_and_said_of_what_runs(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as served:
        os.mkfifo(served.app / "gate")
        talk, news = served.talk(), served.talk()
        for number in range(5):
            talk.rpc("run", target="gate", key=f"g{number}")
            with (served.app / "gate").open("w"):
                pass
            talk.rpc("wait", key=f"g{number}")
        before = talk.rpc("costs")
        assert [(row["target"], row["runs"], row["ok"]) for row in before] == [("gate", 5, 1.0)]
        talk.rpc("restart")
        assert talk.rpc("costs") == before
        news.rpc("subscribe", events=["run.started"])
        talk.rpc("run", target="gate", key="now")
        until(lambda: talk.rpc("status", key="now")["state"] == "running", "it to run")
        record = talk.rpc("status", key="now")
        assert record["usual"]["seconds"] == before[0]["p50"]
        assert record["usual"]["long"] == before[0]["long"]
        assert "left" in record
        reasons = {reason["code"]: reason["text"] for reason in talk.rpc("why", key="now")["reasons"]}
        assert "as a rule" in reasons["usual"]
        assert b'"usual":' in news.line()
        with (served.app / "gate").open("w"):
            pass
        talk.rpc("wait", key="now")
