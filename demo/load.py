"""Clients at work while things happen to the daemon: some that never stop asking, and many that are quiet.

What must live here: sockets, and a judgement of every single reply.
What this file must not know: what happens to the daemon meanwhile.

Every busy client has a run of its own that ended with a status of its own, so a reply that was lost, repeated, sent to another
one or out of order cannot go unnoticed. They speak the classic dialect, half of them over TCP, half over the unix socket.
"""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from demo.stage import StageError

CLIENTS = 8
QUIET = 100
THINKING = 0.01
"""Seconds a client waits between the replies and its next requests."""
RUN_EVERY = 40
HALF_EVERY = 7
BASE = 1000
"""Hash of the first client's own run."""
_OK = {"error_text": "OK"}
_UNKNOWN = {"error_text": "Hash not found"}


@dataclass
class Tally:
    """What clients saw during one act."""

    answered: int = 0
    longest: float = 0.0
    wrong: list[str] = field(default_factory=list)
    """Replies that were not the ones that were due."""
    closed: int = 0
    """Connections that the daemon closed; their requests were repeated over a new one."""
    runs: list[int] = field(default_factory=list)
    """Hashes of the runs that were accepted."""


class Asker:
    """One client that always has a question."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.socket: socket.socket
        self.buffer = b""
        self.expected: list[dict[str, object]] = []
        self.request = b""
        self.rest = b""
        self.sent_at = 0.0
        self.next_at = 0.0
        self.count = 0
        self.run = 0

    def compose(self) -> None:
        """The next requests, and what the replies to them must be."""
        self.count += 1
        lines = [f'check {{"hash":{BASE + self.number}}}', f'check {{"hash":"{9 * BASE + self.number}"}}']
        self.expected = [{"retcode": self.number}, dict(_UNKNOWN)]
        self.run = 0
        if self.count % RUN_EVERY == self.number:
            self.run = (self.number + 1) * 1_000_000 + self.count
            lines.append(f'run {{"hash":{self.run},"class":"tally","params":[{self.run}]}}')
            self.expected.append(dict(_OK))
        self.request = "".join(f"{line}\n" for line in lines).encode()


class Load:
    """The busy clients, in a thread of their own."""

    def __init__(self, tcp: tuple[str, int], unix: str, folder: Path) -> None:
        self._places = (tcp, unix)
        self._tally_path = folder / "tally"
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._now = Tally()
        self._stopping = False
        self.total = 0
        """Requests answered so far."""
        self.may_close = False
        """Whether the daemon may close a connection now (after the death of a master it closes the busy ones)."""
        self.runs: list[int] = []
        self.askers = [Asker(number) for number in range(CLIENTS)]
        self._thread = threading.Thread(target=self._work, name="load", daemon=True)

    def __enter__(self) -> Load:
        for asker in self.askers:
            asker.socket = connect(self._places[asker.number % 2])
            run = BASE + asker.number
            _ask(asker.socket, f'run {{"hash":{run},"class":"status","params":[{asker.number}]}}', _OK)
            until = time.monotonic() + 30
            while _ask(asker.socket, f'check {{"hash":{run}}}') != {"retcode": asker.number}:
                if time.monotonic() > until:
                    raise StageError(f"run {run} does not end")
                time.sleep(0.01)
            asker.socket.setblocking(False)
            self._selector.register(asker.socket, selectors.EVENT_READ, asker)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join(30)
        for asker in self.askers:
            asker.socket.close()
        self._selector.close()

    def take(self) -> Tally:
        """What was seen since the last time."""
        with self._lock:
            tally, self._now = self._now, Tally()
        self.runs += tally.runs
        return tally

    def wait(self, requests: int) -> None:
        """Wait until so many more requests have been answered."""
        goal, until = self.total + requests, time.monotonic() + 30
        while self.total < goal:
            if time.monotonic() > until:
                raise StageError(f"only {requests - goal + self.total} of {requests} requests were answered in 30 s")
            time.sleep(0.01)

    def executions(self) -> Counter[int]:
        """How often each run has run, as the runs themselves say."""
        if not self._tally_path.exists():
            return Counter()
        return Counter(int(line) for line in self._tally_path.read_text().splitlines())

    # --- the thread ---------------------------------------------------------------------------------------------------
    def _work(self) -> None:
        while not self._stopping or any(asker.expected for asker in self.askers):
            now = time.monotonic()
            for asker in self.askers:
                if asker.next_at <= now and (asker.rest or (not asker.expected and not self._stopping)):
                    self._send(asker, now)
            waiting = [asker.next_at for asker in self.askers if asker.rest or not asker.expected]
            pause = min((moment - time.monotonic() for moment in waiting), default=1.0)
            for key, _ in self._selector.select(max(0.0, min(pause, 0.5))):
                self._read(key.data)

    def _send(self, asker: Asker, now: float) -> None:
        if asker.rest:
            data, asker.rest = asker.rest, b""
            asker.sent_at = now
        else:
            asker.compose()
            data = asker.request
            asker.sent_at = now
            if asker.count % HALF_EVERY == 0:  # sometimes half a request now, the other half in a moment
                data, asker.rest = data[: len(data) // 2], data[len(data) // 2 :]
                asker.next_at = now + THINKING
        try:
            asker.socket.sendall(data)
        except OSError:
            self._closed(asker)

    def _read(self, asker: Asker) -> None:
        try:
            data = asker.socket.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            return self._closed(asker)
        asker.buffer += data
        *lines, asker.buffer = asker.buffer.split(b"\n")
        for line in lines:
            self._judge(asker, json.loads(line))
        return None

    def _judge(self, asker: Asker, reply: object) -> None:
        now = time.monotonic()
        with self._lock:
            due = asker.expected.pop(0) if asker.expected else None
            if reply != due:
                self._now.wrong.append(f"client {asker.number} got {reply} instead of {due}")
            self._now.answered += 1
            self.total += 1
            self._now.longest = max(self._now.longest, now - asker.sent_at)
            if not asker.expected:
                if asker.run:
                    self._now.runs.append(asker.run)
                asker.next_at = now + THINKING

    def _closed(self, asker: Asker) -> None:
        """The daemon has closed a connection: connect again and repeat what was not answered, by the same hash."""
        self._selector.unregister(asker.socket)
        asker.socket.close()
        with self._lock:
            self._now.closed += 1
            if not self.may_close:
                self._now.wrong.append(f"client {asker.number}: the connection was closed")
        try:
            asker.socket = connect(self._places[asker.number % 2])
        except OSError as error:
            with self._lock:
                self._now.wrong.append(f"client {asker.number}: {error}")
            asker.expected, asker.next_at = [], float("inf")
            return
        self._selector.register(asker.socket, selectors.EVENT_READ, asker)
        asker.buffer, asker.rest = b"", b""
        lines = asker.request.splitlines(keepends=True)
        asker.socket.sendall(b"".join(lines[len(lines) - len(asker.expected) :]) if asker.expected else b"")
        asker.socket.setblocking(False)


class Quiet:
    """Connections that say nothing for a long time."""

    def __init__(self, tcp: tuple[str, int], unix: str) -> None:
        self.sockets = [connect((tcp, unix)[number % 2]) for number in range(QUIET)]
        for connection in self.sockets:  # the daemon has seen each of them once
            _ask(connection, f'check {{"hash":{BASE}}}', {"retcode": 0})

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self.sockets:
            connection.close()

    def begin(self, count: int) -> list[socket.socket]:
        """Send half a request over some of them."""
        begun = self.sockets[:count]
        for connection in begun:
            connection.sendall(b'check {"hash":')
        return begun

    @staticmethod
    def finish(begun: list[socket.socket]) -> int:
        """Send the other half; returns how many got their answer."""
        return sum(_ask(connection, f"{BASE}}}") == {"retcode": 0} for connection in begun)

    def alive(self) -> int:
        """How many of them are still the connections they were, and answered."""
        return sum(_ask(connection, f'check {{"hash":{BASE}}}') == {"retcode": 0} for connection in self.sockets)


def connect(place: tuple[str, int] | str) -> socket.socket:
    """A connection to a TCP address or the path of a unix socket."""
    connection = socket.socket(socket.AF_UNIX if isinstance(place, str) else socket.AF_INET)
    connection.settimeout(30)
    try:
        connection.connect(place)
    except BaseException:
        connection.close()
        raise
    return connection


def _ask(connection: socket.socket, line: str, due: object = None) -> object:
    """One request; the reply, or None when there is none."""
    try:
        connection.sendall(line.encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            piece = connection.recv(65536)
            if not piece:
                return None
            data += piece
    except OSError:
        return None
    reply = json.loads(data)
    if due is not None and reply != due:
        raise StageError(f"{line}: {reply} instead of {due}")
    return reply
