"""Calls without end, and restarts in the middle of them: each is answered, once, with its own result."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from rocksyd.testing import Conversation, Daemon
from rocksyd.testing.daemon import until

JOBS = """
from rocksyd import job

@job
def double(number):
    return 2 * number
"""
POOL = 'pm = "static"\nmax_workers = 2\nmax_jobs = 50\ngrace = "30s"'
UNDER_WAY = 20


class Caller(threading.Thread):
    """Calls over one connection, ``UNDER_WAY`` at any time, until told to stop; then waits for the rest."""

    def __init__(self, talk: Conversation) -> None:
        super().__init__()
        self.talk = talk
        self.stop = threading.Event()
        self.answers: dict[int, int] = {}
        self.trouble = ""

    def run(self) -> None:
        sent = 0
        while not self.trouble and (not self.stop.is_set() or len(self.answers) < sent):
            while sent < len(self.answers) + UNDER_WAY and not self.stop.is_set():
                params = {"target": "double", "params": [sent]}
                self.talk.send(json.dumps({"jsonrpc": "2.0", "id": sent, "method": "call", "params": params}))
                sent += 1
            reply = json.loads(self.talk.line())
            if "error" in reply or reply["id"] in self.answers:
                self.trouble = str(reply)
            self.answers[reply["id"]] = reply.get("result", {}).get("result")


@pytest.mark.parametrize("calls", ["behind", "failed", "before"])
def test_p1_restarts_in_the_middle_of_calls_lose_and_repeat_none(tmp_path: Path, calls: str) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL, "top": f'journal.calls = "{calls}"'}) as daemon:
        callers = [Caller(daemon.talk()) for _ in range(2)]
        for caller in callers:
            caller.start()
        for number in range(2):
            before = [len(caller.answers) for caller in callers]
            until(lambda: all(len(c.answers) > b + 30 for c, b in zip(callers, before, strict=True)), "calls")  # noqa: B023
            assert daemon.restart() == {"error_text": "Restarted successfully"}, number
        for caller in callers:
            caller.stop.set()
            caller.join()
            assert not caller.trouble
            assert caller.answers == {number: 2 * number for number in range(len(caller.answers))}
        until(lambda: daemon.talk().rpc("stats")["runs_running"] == 0, "the end of all calls")


def test_after_the_master_was_killed_in_the_middle_of_calls_new_ones_are_served(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk = daemon.talk()
        daemon.wait_shelved(1)
        master = daemon.master_pid
        for number in range(200):
            talk.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": "call", "params": ["double", [number]]}))
        assert json.loads(talk.line())["result"]["result"] % 2 == 0
        os.kill(master, signal.SIGKILL)
        again = daemon.talk()
        for number in range(20):
            assert again.rpc("call", target="double", params=[number])["result"] == 2 * number
        until(lambda: daemon.talk().rpc("stats")["runs_waiting"] == 0, "nothing that waits for a caller who has gone")
