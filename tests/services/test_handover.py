"""A deploy: every connection, byte, state and timer goes to the new code, or the old code goes on as if nothing had been."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon, until
from tests.services.stage import CHAT, Client, chatting

REFUSES = CHAT.replace('self.lines = state["lines"]', 'raise KeyError("what is not there")')
HANGS_WHEN_IT_COUNTS = CHAT.replace(
    'self.lines = state["lines"]',
    """
        with open("loaded", "a") as file:
            file.write("x")
        if len(open("loaded").read()) == 2:
            {then}
        self.lines = state["lines"]""",
)
"""Its rehearsal goes well."""


@pytest.fixture(name="daemon")
def _daemon(tmp_path: Path) -> Iterator[Daemon]:
    with chatting(tmp_path) as daemon:
        yield daemon


def deploy(daemon: Daemon, text: str) -> dict[str, Any]:
    """Other code, and a restart: which services go on in the code before, and why."""
    (daemon.app / "jobs.py").write_text(text)
    with daemon.talk() as conversation:
        kept: dict[str, Any] = conversation.rpc("restart").get("kept", {})
        return kept


def version(number: int, text: str = CHAT) -> str:
    """The same code with another number."""
    return text.replace("VERSION = 1", f"VERSION = {number}")


class Writer(threading.Thread):
    """Writes numbered lines, cut anywhere, and reads them back: none lost, repeated or reordered."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        super().__init__()
        self.client = Client(daemon)
        self.over = threading.Event()
        self.back = 0
        self.wrong = ""
        self._seed = seed

    def run(self) -> None:
        """Until ``over``."""
        step = 1 + self._seed * 7
        owed = b""
        sent = 0
        try:
            while not self.over.is_set() or self.back < sent:
                if sent - self.back < 50 and not self.over.is_set():
                    owed += f"line {sent} of {self._seed}\n".encode()
                    sent += 1
                elif not owed:
                    self._read()
                    continue
                size = 1 + (step * len(owed) + sent) % 29
                self.client.socket.sendall(owed[:size])
                owed = owed[size:] if not self.over.is_set() else self._rest(owed[size:])
        except (OSError, EOFError) as error:
            self.wrong = f"{type(error).__name__}: {error}"

    def _rest(self, owed: bytes) -> bytes:
        self.client.socket.sendall(owed)
        return b""

    def _read(self) -> None:
        line = self.client.line()
        if line != f"line {self.back} of {self._seed}":
            self.wrong = self.wrong or f"{line!r} instead of line {self.back}"
        self.back += 1


def test_no_line_is_lost_repeated_or_reordered_in_many_deploys(daemon: Daemon) -> None:
    writers = [Writer(daemon, seed) for seed in range(4)]
    for writer in writers:
        writer.start()
    half, asking = Client(daemon), Client(daemon)
    half.socket.sendall(b"half a li")
    for number in range(2, 5):
        before = [writer.back for writer in writers]
        assert deploy(daemon, version(number)) == {}
        assert asking.who()["version"] == number
        until(lambda before=before: all(w.back > b + 20 or w.wrong for w, b in zip(writers, before, strict=True)), "more lines")
        half.socket.sendall(b"ne, ")
    half.socket.sendall(b"whole\n")
    assert half.line() == "half a line, ne, ne, whole"
    for writer in writers:
        writer.over.set()
    for writer in writers:
        writer.join()
    assert [writer.wrong for writer in writers] == [""] * 4
    assert asking.who()["connections"] == 6
    for client in (*(writer.client for writer in writers), half, asking):
        client.close()


def test_who_does_not_read_gets_everything_from_the_new_code(daemon: Daemon) -> None:
    deaf, other = Client(daemon), Client(daemon)
    assert deaf.ask("hello") == "hello"
    lines = [f"all {number} {'x' * 3000}" for number in range(200)]
    for line in lines:  # more than the kernel takes, less than max_unsent
        other.send(line)
        assert other.line() == line[4:]
    assert deploy(daemon, version(2)) == {}
    assert other.who()["version"] == 2
    assert [deaf.line() for _ in lines] == [line[4:] for line in lines]
    assert deaf.who()["version"] == 2
    deaf.close()
    other.close()


def test_state_and_timers_go_on(daemon: Daemon) -> None:
    client = Client(daemon)
    assert client.ask("one") == "one"
    before = client.who()
    client.send("later 0.001")
    assert client.line() == "ring"
    client.send("later 1")
    deploy(daemon, version(2))
    assert client.line() == "ring"
    after = client.who()
    assert (after["version"], after["lines"], after["count"]) == (2, before["lines"] + 3, before["count"] + 3)
    client.close()


def test_code_that_cannot_load_the_state_is_refused_and_nothing_has_changed(daemon: Daemon) -> None:
    client = Client(daemon)
    before = client.who()
    (daemon.app / "jobs.py").write_text(version(2, REFUSES))
    with pytest.raises(AssertionError) as refused:
        daemon.talk().rpc("restart")
    text = str(refused.value)
    assert "service chat: the new code cannot go on with the state of the service: " in text
    assert "what is not there" in text
    assert "jobs.py" in text
    assert "nothing has changed" in text
    after = client.who()
    assert (after["version"], after["pid"], after["lines"]) == (1, before["pid"], before["lines"] + 1)
    client.close()


def test_a_state_that_is_no_plain_data_is_refused_with_its_place(daemon: Daemon) -> None:
    deploy(daemon, CHAT.replace('return {"lines": self.lines}', "return {'lines': {1: 2}}"))
    client = Client(daemon)
    (daemon.app / "jobs.py").write_text(CHAT)
    with pytest.raises(AssertionError, match="what dump returned has the key 1: keys are text in plain data"):
        daemon.talk().rpc("restart")
    assert client.ask("still") == "still"
    client.close()


@pytest.mark.parametrize(
    ("then", "why"),
    [
        ("raise KeyError('now')", "KeyError: 'now'"),
        ("os._exit(3)", "the new worker exited with status 3 before it served"),
        ("os.kill(os.getpid(), 9)", "before it served"),
    ],
)
def test_new_code_that_fails_when_it_counts_leaves_the_old_one_serving(daemon: Daemon, then: str, why: str) -> None:
    client = Client(daemon)
    before = client.who()
    client.socket.sendall(b"half")
    kept = deploy(daemon, version(2, HANGS_WHEN_IT_COUNTS.replace("{then}", then)))
    assert list(kept) == ["app/chat"]
    assert why in kept["app/chat"]
    with daemon.talk() as conversation:
        health = conversation.rpc("health")
    assert not health["ok"]
    assert health["problems"] == [f"service app/chat goes on in the code before: {kept['app/chat'].partition(chr(10))[0]}"]
    assert client.ask(" a line") == "half a line"
    after = client.who()
    assert (after["version"], after["pid"], after["lines"]) == (1, before["pid"], before["lines"] + 2)
    assert deploy(daemon, version(3)) == {}
    assert client.who()["version"] == 3
    with daemon.talk() as conversation:
        assert conversation.rpc("health")["ok"]
    client.close()


def test_a_method_that_does_not_settle_keeps_the_old_code_serving(tmp_path: Path) -> None:
    never = "import asyncio; c.send('begun'); await (asyncio.Event().wait() if line == 'wait' else asyncio.sleep(0))"
    text = CHAT.replace("c.send(line)", never)
    with chatting(tmp_path, text, service='settle = "100ms"') as daemon:
        client, waiting = Client(daemon), Client(daemon)
        assert waiting.ask("wait") == "begun"
        before = client.who()
        kept = deploy(daemon, version(2))
        assert "1 calls of its methods had not returned within settle" in kept["app/chat"]
        assert client.who()["pid"] == before["pid"]
        waiting.close()
        client.close()


def test_a_new_worker_that_is_killed_while_it_loads_is_no_harm(daemon: Daemon) -> None:
    client = Client(daemon)
    before = client.who()
    gate = "open(f'pid{os.getpid()}', 'w').close(); __import__('time').sleep(600)"
    (daemon.app / "jobs.py").write_text(version(2, HANGS_WHEN_IT_COUNTS.replace("{then}", gate)))
    restarting = daemon.talk()
    restarting.send('{"jsonrpc": "2.0", "id": 1, "method": "restart"}')
    until(lambda: list(daemon.app.glob("pid*")), "the new worker in the middle of load")
    (found,) = daemon.app.glob("pid*")
    os.kill(int(found.name.removeprefix("pid")), signal.SIGKILL)
    assert b'"kept"' in restarting.line()
    restarting.close()
    assert client.ask("still") == "still"
    assert client.who()["pid"] == before["pid"]
    client.close()
