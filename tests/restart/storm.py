"""A crowd of clients in one selector loop: every byte they send is cut at random, every reply is checked.

Each knows what it is owed: classic and memcached replies in the order of the requests, JSON-RPC replies by their id. A reply that
is missing, repeated, out of order or wrong is an AssertionError that says which.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

MOST_OWED = 30
"""Replies a client lets be owed to it before it asks for more."""
PATIENCE = 60.0


class Caller:
    """One client: a connection at a time, dialects mixed, some of its connections half-closed and followed by another."""

    def __init__(self, storm: Storm, number: int) -> None:
        self.storm = storm
        self.chance = random.Random(1000 * storm.seed + number)
        self.number = number
        self.count = 0
        self.served = 0
        self.unsent = b""
        self.received = b""
        self.in_order: deque[tuple[str, Callable[[bytes], object]]] = deque()
        self.by_id: dict[Any, Callable[[Any], object]] = {}
        self.deaf_until = 0
        self.leaving = False
        self.shut = False
        self.reader: Callable[[bytes], bool] | None = None
        self.connection = self._connected()

    def _connected(self) -> socket.socket:
        connection = self.storm.connect()
        connection.setblocking(False)
        self.storm.selector.register(connection, selectors.EVENT_READ, self)
        self.shut = False
        return connection

    def wait_for(self) -> None:
        """Be told only of what this client is interested in now."""
        mask = 0 if self.deaf_until > self.storm.restarts else selectors.EVENT_READ
        if self.unsent or (self.leaving and not self.shut):
            mask |= selectors.EVENT_WRITE
        known = self.storm.selector.get_map()
        if not mask:
            if self.connection in known:
                self.storm.selector.unregister(self.connection)
        elif self.connection not in known:
            self.storm.selector.register(self.connection, mask, self)
        elif known[self.connection].events != mask:
            self.storm.selector.modify(self.connection, mask, self)

    @property
    def owed(self) -> int:
        return len(self.in_order) + len(self.by_id) + bool(self.unsent)

    # --- asking -------------------------------------------------------------------------------------------------------
    def ask(self) -> None:
        """Think of some requests; what is sent of them, and when, is another thing."""
        if self.leaving or self.owed >= MOST_OWED:
            return
        lines = [self.chance.choice(_REQUESTS)(self) for _ in range(self.chance.randrange(1, 8))]
        self.unsent += b"".join(line.encode() + self.chance.choice((b"\n", b"\n", b"\r\n", b"\n\n")) for line in lines)
        self.wait_for()

    def _key(self) -> int:
        self.count += 1
        return self.number * 1_000_000 + self.count

    def _in_order(self, line: str, check: Callable[[bytes], object]) -> str:
        self.in_order.append((line, check))
        return line

    def _rpc(self, method: str, check: Callable[[Any], object], **params: Any) -> str:
        identity = self._key()
        self.by_id[identity] = check
        return json.dumps({"jsonrpc": "2.0", "id": identity, "method": method, "params": params}, ensure_ascii=False)

    def unknown(self) -> str:
        number = self._key()
        return self._in_order(f'echo {{"n":{number},"text":"é漢"}}', lambda line: f'{{\\"n\\":{number},'.encode() in line)

    def run(self) -> str:
        key = self._key()
        self.storm.expected[str(key)] = status = self.chance.choice((0, 0, 0, 7))
        line = f'run {{"hash":{key},"class":"ends","params":["{key}",{status}]}}'
        again = self._in_order(line, lambda reply: json.loads(reply) == {"error_text": "OK"})
        if self.chance.random() < 0.3:  # said twice, it runs once
            again += "\n" + self._in_order(line, lambda reply: json.loads(reply) == {"error_text": "OK"})
        return again

    def check(self) -> str:
        keys = [key for key in self.storm.expected if int(key) // 1_000_000 == self.number]
        if not keys:
            return self.unknown()
        key = self.chance.choice(keys)
        allowed = ({"error_text": "Still running"}, {"retcode": self.storm.expected[key]})
        return self._in_order(f'check {{"hash":{key}}}', lambda reply: json.loads(reply) in allowed)

    def version(self) -> str:
        return self._in_order("version", lambda line: line.startswith(b"VERSION "))

    def stats(self) -> str:
        return self._in_order("stats", self._stats_begin)

    def _stats_begin(self, line: bytes) -> bool:
        self.reader = lambda more: more.startswith(b"STAT ") or more.strip() == b"END"
        return line.startswith(b"STAT pid ")

    def status(self) -> str:
        return self._rpc("status", lambda reply: reply["error"]["code"] == -32001, key="nobody's, é漢")

    def call(self) -> str:
        a, b = self._key(), self.chance.randrange(100)
        self.storm.expected[str(a)] = 0
        return self._rpc("call", lambda reply: reply["result"]["result"] == a + b, target="add", key=str(a), params=[a, b])

    def health(self) -> str:
        return self._rpc("health", lambda reply: reply["result"]["ok"])

    def batch(self) -> str:
        first, second = self._key(), self._key()
        ids = {first, second}
        self.by_id[("batch", first)] = lambda replies: {reply["id"] for reply in replies} == ids
        calls = [{"jsonrpc": "2.0", "id": identity, "method": "health"} for identity in (first, second)]
        return json.dumps([calls[0], {"jsonrpc": "2.0", "method": "health"}, calls[1]])

    # --- bytes --------------------------------------------------------------------------------------------------------
    def send(self) -> None:
        """Some of what there is to send, cut anywhere."""
        if self.unsent:
            most = self.chance.choice((1, 3, 20, 300, 5000))
            try:
                self.unsent = self.unsent[self.connection.send(self.unsent[:most]) :]
            except BlockingIOError:
                return
        elif self.leaving and not self.shut:
            self.shut = True
            self.connection.shutdown(socket.SHUT_WR)
        self.wait_for()

    def receive(self) -> None:
        """Take replies."""
        try:
            data = self.connection.recv(self.chance.choice((100, 10_000)))
        except BlockingIOError:
            return None
        if not data:
            return self._ended()
        self.received += data
        *lines, self.received = self.received.split(b"\n")
        for line in lines:
            self._check(line)
        return None

    def _ended(self) -> None:
        assert self.leaving, f"client {self.number} was closed: {self.describe()}"
        assert not self.owed, f"client {self.number} was closed, and is owed {self.describe()}"
        assert not self.received, self.received
        self.storm.selector.unregister(self.connection)
        self.connection.close()
        self.leaving = False
        self.connection = self._connected()

    def _check(self, line: bytes) -> None:
        self.served += 1
        if self.reader is not None:
            assert self.reader(line), (self.number, line)
            if line.strip() == b"END":
                self.reader = None
        elif line.startswith(b'{"jsonrpc"'):
            reply = json.loads(line)
            check = self.by_id.pop(reply["id"], None)
            assert check is not None, f"client {self.number}: nobody asked for {reply}"
            assert check(reply), reply
        elif line.startswith(b"["):
            replies = json.loads(line)
            check = self.by_id.pop(("batch", replies[0]["id"]), None) or self.by_id.pop(("batch", replies[1]["id"]))
            assert check(replies), replies
        else:
            assert self.in_order, f"client {self.number}: nobody asked for {line!r}"
            asked, right = self.in_order.popleft()
            assert right(line), f"client {self.number} asked {asked!r} and got {line!r}"

    def whim(self) -> None:
        """After a restart some stop reading until others have come, and some have said all they wanted on this connection."""
        whim = self.chance.random()
        if whim < 0.1:
            self.deaf_until = self.storm.restarts + self.chance.randrange(1, 4)
        elif whim < 0.2:
            self.leaving = True
        self.wait_for()

    def describe(self) -> str:
        return f"{[asked for asked, _ in self.in_order]}, ids {list(self.by_id)}, unsent {self.unsent!r}"


_REQUESTS: tuple[Callable[[Caller], str], ...] = (
    *(Caller.unknown, Caller.unknown, Caller.unknown, Caller.run, Caller.check, Caller.check, Caller.check),
    *(Caller.version, Caller.stats, Caller.status, Caller.status, Caller.call, Caller.health, Caller.batch),
)


class Storm:
    """All of them, and one more that restarts the daemon again and again."""

    def __init__(self, connect: Callable[[], socket.socket], clients: int, seed: int) -> None:
        self.connect = connect
        self.seed = seed
        self.selector = selectors.DefaultSelector()
        self.chance = random.Random(seed)
        self.restarts = 0
        self.expected: dict[str, int] = {}
        """Key of every run -> the exit status it must have."""
        self.callers = [Caller(self, number) for number in range(1, clients + 1)]

    def blow(self, restarts: int) -> None:
        """Until there have been so many restarts more."""
        goal = self.restarts + restarts
        with self.connect() as ordering:
            self.selector.register(ordering, selectors.EVENT_READ, None)
            ordering.sendall(b"restart\n")
            while self.restarts < goal:
                if self._turn(ordering):
                    self.restarts += 1
                    for caller in self.callers:
                        caller.whim()
                    if self.restarts < goal:
                        ordering.sendall(b"restart\n")
                for caller in self.chance.sample(self.callers, 10):
                    caller.ask()
            self.selector.unregister(ordering)

    def _turn(self, ordering: socket.socket | None) -> bool:
        """One round of the loop; true when a restart is done."""
        ready = self.selector.select(PATIENCE)
        assert ready, "nothing happens any more: " + "; ".join(f"{c.number}: {c.describe()}" for c in self.callers if c.owed)
        done = False
        for key, events in ready:
            if key.fileobj is ordering:
                reply = ordering.recv(4096)
                assert json.loads(reply) == {"error_text": "Restarted successfully"}, reply
                done = True
                continue
            if events & selectors.EVENT_READ:
                key.data.receive()
            if events & selectors.EVENT_WRITE and key.fileobj is key.data.connection:
                key.data.send()
        return done

    def calm(self) -> None:
        """Ask nothing more; see that everyone gets all that is owed to them, and nothing else."""
        for caller in self.callers:
            caller.deaf_until = 0
            caller.wait_for()
        end = time.monotonic() + PATIENCE
        while any(caller.owed or caller.leaving for caller in self.callers):
            assert time.monotonic() < end, "; ".join(f"{c.number}: {c.describe()}" for c in self.callers if c.owed)
            self._turn(None)

    def close(self) -> None:
        for caller in self.callers:
            caller.connection.close()
        self.selector.close()
