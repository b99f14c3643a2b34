"""Output and news over a restart and over the death of the master: nothing is missing, nothing is said twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rocksyd.testing import Daemon, until
from tests.faults.crowd import JOBS, POOL, ended, kill_master, open_gate, serving_master, traced

TALKS = (
    JOBS
    + """
@job
def talks(count):
    for number in range(count):
        print("line", number)
        if number == count // 2:
            trace()
            hold()
"""
)
COUNT = 2000
WHOLE = "".join(f"line {number}\n" for number in range(COUNT))


def restart(daemon: Daemon) -> None:
    assert daemon.restart() == {"error_text": "Restarted successfully"}


def kill(daemon: Daemon) -> None:
    kill_master(daemon)


def both(daemon: Daemon) -> None:
    restart(daemon)
    kill_master(daemon)
    restart(daemon)


@pytest.mark.parametrize("happens", [restart, kill, both])
def test_p1_p11_a_follower_gets_every_line_once(tmp_path: Path, happens: Callable[[Daemon], None]) -> None:
    with Daemon(tmp_path, TALKS, parts={"pool": POOL}) as daemon, daemon.client() as client:
        pieces: list[str] = []
        half = threading.Event()

        def follow() -> None:
            for piece in client.logs("1", follow=True):
                pieces.append(piece)
                if f"line {COUNT // 2}\n" in "".join(pieces):
                    half.set()

        client.run("talks", COUNT, key="1")
        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        assert half.wait(30)
        happens(daemon)
        open_gate(daemon)
        thread.join(30)
        assert not thread.is_alive()
        assert "".join(pieces) == WHOLE
        assert ended(daemon, "1")["outcome"] == "ok"


@pytest.mark.parametrize("request_", ["subscribe", "follow", "wait", "call", "drain"])
def test_p11_who_is_to_hear_more_is_not_left_connected_to_a_master_that_does_not_know(tmp_path: Path, request_: str) -> None:
    lines = {
        "subscribe": '{"jsonrpc":"2.0","id":1,"method":"subscribe"}',
        "follow": '{"jsonrpc":"2.0","id":1,"method":"logs","params":{"key":"1","follow":true}}',
        "wait": '{"jsonrpc":"2.0","id":1,"method":"wait","params":{"key":"1"}}',
        "call": '{"jsonrpc":"2.0","id":1,"method":"call","params":{"target":"held","key":"1"}}',
        "drain": '{"jsonrpc":"2.0","id":1,"method":"drain"}',
    }
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon:
        talk, quiet = daemon.talk(), daemon.talk()
        assert quiet.ask('{"jsonrpc":"2.0","id":1,"method":"run","params":{"target":"held","key":"1"}}')["result"]["key"] == "1"
        until(lambda: traced(daemon)["1"], "the run to begin")
        talk.send(lines[request_])
        if request_ in ("subscribe", "follow"):
            assert b'"result"' in talk.line()
        assert b'"result"' not in talk.ask('check {"hash":9}')
        daemon.wait_shelved(2)
        kill_master(daemon)
        while talk.line():
            pass  # news that it had been told before
        open_gate(daemon)
        assert ended(daemon, "1")["retcode"] == 0
        assert quiet.ask('check {"hash":1}') == {"retcode": 0}


def test_p11_who_has_heard_all_there_was_to_hear_is_quiet_again(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}) as daemon, daemon.client() as client:
        talk = daemon.talk()
        client.run("held", key="1")
        until(lambda: traced(daemon)["1"], "the run to begin")
        talk.send('{"jsonrpc":"2.0","id":1,"method":"logs","params":{"key":"1","follow":true}}')
        assert b'"result"' in talk.line()
        restart(daemon)
        open_gate(daemon)
        assert b'"ended":true' in talk.line()
        daemon.wait_shelved(1)
        kill_master(daemon)
        assert talk.ask('check {"hash":1}') == {"retcode": 0}
        assert serving_master(daemon)
