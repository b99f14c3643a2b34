"""A pool with an adaptive limit: what would have to wait too long is refused at once."""

from __future__ import annotations

import json
from pathlib import Path

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until

JOBS = """
import pathlib, time
from rocksyd import job

@job
def gate(path):
    while not pathlib.Path(path).exists():
        time.sleep(0.005)
    return "served"
"""
POOL = """pm = "static"
max_workers = 2
max_jobs = 0
grace = "30s"
admission = "adaptive"
wait_target = "100ms"
wait_interval = "300ms"
"""
TOO_BUSY = -32004


def test_while_the_workers_are_stuck_callers_are_refused_and_afterwards_they_are_served(tmp_path: Path) -> None:
    held = tmp_path / "go"
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk = daemon.talk()

        def call(number: int) -> str:
            params = {"target": "gate", "params": [str(held)]}
            return json.dumps({"jsonrpc": "2.0", "id": number, "method": "call", "params": params})

        talk.send(call(0), call(1))
        until(lambda: daemon.talk().rpc("stats")["runs_running"] == 2, "two calls that are stuck")
        talk.send(call(2))
        given_up = json.loads(talk.line())  # one may wait behind an empty queue, but not for ever
        assert (given_up["id"], given_up["error"]["code"]) == (2, TOO_BUSY)
        assert given_up["error"]["data"]["outcome"] == "timeout"
        talk.send(call(3), call(4))  # one that waits, and one behind it
        replies = {reply["id"]: reply for reply in (json.loads(talk.line()) for _ in range(2))}
        assert all(reply["error"]["code"] == TOO_BUSY for reply in replies.values())
        assert replies.keys() == {3, 4}
        assert "would wait" in replies[4]["error"]["message"]
        held.touch()
        served = {reply["id"]: reply["result"]["result"] for reply in (json.loads(talk.line()) for _ in range(2))}
        assert served == {0: "served", 1: "served"}
        talk.send(call(5))
        assert json.loads(talk.line())["result"]["result"] == "served"
