"""Clients, callers of exec and jobs that say what is nearly right, and look at every reply.

What must live here: one class for each way to speak to a daemon, with what is valid in it and what must come back.
What this file must not know: how values are changed.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from rocksyd import messages
from rocksyd.master.desk.methods import METHODS
from rocksyd.surroundings import FORMAT, Surroundings
from rocksyd.values import Value
from tests.fuzz.stage import Stage
from tests.fuzz.values import broken, changed, cut, odd, spelt

KEYS = [f"k{number}" for number in range(8)] + [str(number) for number in range(1, 9)]
NEVER = {"stop", "drain", "restart", "reload"}
"""Orders that end the daemon, or take long; a round of restarts gives them in their time."""
LATE = {"wait", "call", "subscribe", "logs"}
"""Methods whose reply may be due much later, or never."""
PATIENCE = 30.0


class Finding(AssertionError):
    """What must not be; the text says what was said and what came back."""


class Spoken:
    """Lines for one connection, and what has to come back for them."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.in_order: list[Callable[[bytes], bool]] = []
        """Of each reply that comes in the order of the requests, what tells whether it is one."""
        self.ids: set[str] = set()
        self.late: set[str] = set()
        self.nameless = 0
        """Replies of JSON-RPC that may come without an id of ours."""


class Clients:
    """Connections in all three dialects, mixed."""

    def __init__(self, stage: Stage, chance: random.Random) -> None:
        self._stage = stage
        self._chance = chance
        self._number = 0

    def round(self) -> None:
        """One connection."""
        chance, spoken = self._chance, Spoken()
        for _ in range(chance.choice([1, 5, 20, 60])):
            dialect, say = chance.choice(
                [("classic", self._classic), ("json-rpc", self._rpc), ("json-rpc", self._rpc), ("memcached", self._memcached)]
            )
            say(spoken)
            self._stage.counts[dialect] += 1
            if chance.random() < 0.3:
                self._mark(spoken)
        ending = chance.choice(
            ["close", "close", "half closed", "half closed", "reset", "half a line", "bye", "not text", "too long"]
        )
        self._mark(spoken)
        last = {"bye": b"bye\n", "half a line": b'{"jsonrpc":"2.0","id":', "not text": b'check {"hash":"\xff\xfe"}\n',
                "too long": b"run " + b"x" * (1 << 20) + b"\n"}.get(ending, b"")  # fmt: skip
        with self._stage.daemon.connect() as connection:
            connection.settimeout(PATIENCE)
            Exchange(connection, spoken, last, ending, chance).hold()

    # --- what is said -------------------------------------------------------------------------------------------------
    def _mark(self, spoken: Spoken) -> None:
        self._number += 1
        spoken.lines.append(b'mark%d {"n":%d}' % (self._number, self._number))
        wanted = b"UNKNOWN REQUEST 'request_mark%d': " % self._number
        spoken.in_order.append(lambda reply: wanted in reply)

    def _classic(self, spoken: Spoken) -> None:
        chance = self._chance
        verb = chance.choice(["run", "run", "check", "terminate", "free", "auth", "nothing"])
        body: dict[str, Any] = {"hash": chance.choice([1, 2, 3, 4, "5", "007"])}
        if verb == "run":
            body |= {"class": chance.choice(["echo", "fails", "prints", "naps", "jobs:echo"]), "params": [1]}
            body |= chance.choice(
                [{}, {"app": "app"}, {"priority": 3}, {"timeout": "5s", "retries": 1}, {"env": {"A": "b"}}, {"each": True}]
            )
        elif verb == "auth":
            body = {"token": "secret"}
        line = verb.encode() + b" " + spelt(chance, changed(chance, body) if chance.random() < 0.85 else body)
        if chance.random() < 0.1:
            line = broken(chance, line)
        word = line.split(b" ")[0].strip()
        if (
            len(line) > 200_000
            or line[:1] in b"{["
            or not line.strip()
            or word in {b"bye", b"quit", b"stats", b"version", *(name.encode() for name in NEVER)}
        ):
            return
        spoken.lines.append(line)
        spoken.in_order.append(
            lambda reply: isinstance(json.loads(reply), dict) and ({"error_text", "retcode"} & set(json.loads(reply))) != set()
        )

    def _memcached(self, spoken: Spoken) -> None:
        chance = self._chance
        line = chance.choice(
            [b"stats", b"stats pools", b"stats restarts", b"version", b"stats " + broken(chance, b"pools restarts")]
        )
        if chance.random() < 0.3:
            line += b"\r"
        spoken.lines.append(line)
        spoken.in_order.append(
            lambda reply: reply.startswith(
                (b"STAT ", b"END", b"VERSION ", b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR", b'{"error_text":"UNKNOWN REQUEST')
            )
        )

    def _rpc(self, spoken: Spoken) -> None:
        chance = self._chance
        if chance.random() < 0.1:
            spoken.lines.append(b"{" + broken(chance, spelt(chance, self._call("nobody")))[1:])
            spoken.nameless += 1
            spoken.ids.add("nobody")
            return
        if chance.random() < 0.15:
            calls, name = [], ""
            for _ in range(chance.choice([1, 3, 30])):
                name = self._id()
                spoken.late.add(name)  # the array comes when its last call is answered
                calls.append(self._changed_call(name, spoken, 20_000))
            spoken.lines.append(b"[" + b",".join(calls) + b"]")
            spoken.nameless += 1
            return
        name = self._id()
        spoken.lines.append(self._changed_call(name, spoken))
        spoken.nameless += 1

    def _id(self) -> str:
        self._number += 1
        return f"id{self._number}"

    def _changed_call(self, name: str, spoken: Spoken, most: int = 200_000) -> bytes:
        call = self._call(name)
        if self._chance.random() < 0.85:
            call = changed(self._chance, call, keep=("id",))
        if str(call.get("method")) in NEVER:
            call["method"] = "nothing"
        if str(call.get("method")) in LATE or "." in str(call.get("method")):
            spoken.late.add(name)
        spoken.ids.add(name)
        text = spelt(self._chance, call)
        return text if len(text) < most else spelt(self._chance, self._call(name) | {"method": "stats", "params": []})

    def _call(self, name: str) -> dict[str, Any]:
        chance = self._chance
        method = chance.choice([one for one in METHODS if one not in NEVER])
        values: dict[str, Any] = {
            "target": chance.choice(["echo", "fails", "prints", "naps", "jobs:echo", "none"]),
            "app": "app",
            "env": {"A": "b"},
            "params": chance.choice([[], [1], {"text": "a"}]),
            "key": chance.choice(KEYS),
            "priority": 1,
            "retries": 1,
            "timeout": chance.choice([0.05, "100ms"]),
            "start_within": "10s",
            "delay": chance.choice([0, "50ms"]),
            "labels": {"who": "me"},
            "concurrency_key": "c",
            "each": False,
            "state": "ended",
            "outcome": "ok",
            "limit": 3,
            "after": chance.choice(KEYS),
            "signal": chance.choice(["TERM", 10]),
            "offset": 0,
            "follow": chance.random() < 0.2,
            "keys": KEYS[:2],
            "events": ["run.ended"],
            "position": 0,
            "token": "secret",
        }
        params = {
            parameter.name: values.get(parameter.name, odd(chance))
            for parameter in METHODS[method].parameters
            if parameter.required or chance.random() < 0.3
        }
        return {"jsonrpc": "2.0", "id": name, "method": method, "params": params}


class Exchange:
    """One connection: everything is said, in pieces, while what comes back is read and judged."""

    def __init__(self, connection: socket.socket, spoken: Spoken, last: bytes, ending: str, chance: random.Random) -> None:
        self._connection = connection
        self._spoken = spoken
        self._last = last
        self._ending = ending
        self._chance = chance
        self._buffer = b""
        self._in_order = list(spoken.in_order)
        self._answered: set[str] = set()
        self._nameless = 0
        self._heard: list[bytes] = []

    def hold(self) -> None:
        """From the first byte to the end."""
        data = b"".join(line + b"\n" for line in self._spoken.lines) + self._last
        for piece in cut(self._chance, data) if len(data) < 200_000 else iter([data]):
            self._send(piece)
        if self._ending == "reset":
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if self._ending in ("half closed", "half a line"):
            self._connection.shutdown(socket.SHUT_WR)
        while not self._complete():
            if not self._read():
                break
        if not self._complete():
            self._find("the connection ended before everything was answered")
        if self._ending == "close":
            return
        if not self._spoken.late:
            while self._read():  # what else is owed, then the end
                pass

    def _send(self, piece: bytes) -> None:
        while piece:
            _, writable, _ = select.select([self._connection], [self._connection], [], PATIENCE)
            if not writable:
                if not self._read():
                    return  # a connection that was closed because of what was said; what is owed is missed, or not, by _complete
                continue
            try:
                piece = piece[self._connection.send(piece, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                return

    def _read(self) -> bool:
        try:
            data = self._connection.recv(1 << 16)
        except TimeoutError:
            self._find("no reply came in time")
        except ConnectionResetError:  # said once, before what had been sent by who went with something unread (unix(7))
            return self._read()
        self._buffer += data
        while b"\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\n")
            self._judge(line)
        return bool(data)

    def _complete(self) -> bool:
        due = self._spoken.ids - self._spoken.late - self._answered - {"nobody"}
        return not self._in_order and len(due) <= self._nameless

    def _judge(self, line: bytes) -> None:
        self._heard.append(line[:300])
        if not line.startswith((b"{", b"[")):
            self._classic(line)
            return
        reply = json.loads(line)
        if isinstance(reply, list):
            for one in reply:
                self._rpc(one, line)
        elif "jsonrpc" in reply:
            if "method" not in reply:
                self._rpc(reply, line)
        else:
            self._classic(line)

    def _rpc(self, reply: dict[str, Any], line: bytes) -> None:
        if reply.get("jsonrpc") != "2.0" or ("result" in reply) == ("error" in reply):
            self._find(f"this is no reply of JSON-RPC: {line[:500]!r}")
        name = reply["id"]
        if isinstance(name, str) and name in self._spoken.ids:
            if name in self._answered and name != "nobody":
                self._find(f"{name} was answered twice: {line[:500]!r}")
            self._answered.add(name)
        elif name is None or self._spoken.nameless:
            self._nameless += 1
        else:
            self._find(f"nobody asked for this: {line[:500]!r}")
        if reply.get("error", {}).get("code") == -32603:
            self._find(f"an internal error: {line[:2000]!r}")

    def _classic(self, line: bytes) -> None:
        if not self._in_order:
            if self._ending in ("not text", "too long", "half a line"):
                return
            self._find(f"nobody asked for this: {line[:500]!r}")
        if line.startswith(b"STAT "):
            return  # END follows
        if not self._in_order.pop(0)(line):
            self._find(f"another reply was due than {line[:500]!r}")

    def _find(self, what: str) -> None:
        due = sorted(self._spoken.ids - self._spoken.late - self._answered)
        raise Finding(
            f"{what} (end of the connection: {self._ending}; due are {len(self._in_order)} replies in order and {due[:5]}); "
            "said was:\n"
            + "\n".join(repr(line[:2000]) for line in self._spoken.lines)
            + f"\nheard was, at last: {self._heard[-5:]}"
        )


class Callers:
    """The socket of ``rocksyd exec``: orders and questions."""

    SCRIPTS: tuple[list[bytes], ...] = (
        [b"-c", b"pass"],
        [b"-c", b"raise SystemExit(3)"],
        [b"-m", b"this"],
        [b"nowhere.py"],
        [b"-"],
        [],
        [b"-c"],
        [b""],
    )

    def __init__(self, stage: Stage, chance: random.Random) -> None:
        self._stage = stage
        self._chance = chance
        self._number = 0
        self._path = stage.daemon.address.removeprefix("unix://") + ".exec"

    def round(self) -> None:
        """One connection."""
        chance = self._chance
        self._stage.counts["exec"] += 1
        opened: list[int] = []
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
            line.settimeout(PATIENCE)
            line.connect(self._path)
            try:
                fds = self._descriptors(opened)
                text = b"exec 1" if chance.random() < 0.8 else self._text()
                try:
                    if fds:
                        socket.send_fds(line, [text], fds)
                    else:
                        line.send(text)
                except OSError as error:
                    if error.errno not in (9, 7, 109):  # a descriptor that is none, too many
                        raise
                    return
                if chance.random() < 0.2:
                    return  # the caller has gone
                said = line.recv(4096)
            finally:
                for fd in opened:
                    os.close(fd)
            if said and not said.startswith((b"accepted", b"refused ", b"ended ", b"unknown")):
                raise Finding(f"{text!r} with {len(fds)} descriptors was answered with {said!r}")
            while said.startswith(b"accepted"):  # its line is closed: the run ends by itself
                said = line.recv(4096)

    def _text(self) -> bytes:
        chance = self._chance
        return chance.choice(
            [
                b"",
                b"exec 2",
                b"exec",
                b"ended ",
                b"ended k1",
                b"ended \xff",
                b"ended " + b"k" * 5000,
                os.urandom(3),
                b"exec 1\0",
                b"x" * 5000,
            ]
        )

    def _descriptors(self, opened: list[int]) -> list[int]:
        chance = self._chance
        self._number += 1
        argv, env = chance.choice(self.SCRIPTS), [b"PATH=/usr/bin:/bin", b"A=\xff"]
        around = Surroundings(
            list(argv),
            env,
            key=f"e{self._number}",
            app="",
            cwd=str(self._stage.daemon.app),
            opened=chance.choice(["", "1", "012", "12"]),
        )
        data = around.encode()
        names = ("app", "key", "cwd", "umask", "opened", "ignored", "priority", "argc")
        if chance.random() < 0.7:
            name = chance.choice(names).encode()
            value = chance.choice(
                [
                    b"",
                    b"-1",
                    b"x",
                    b"9" * 30,
                    b"\xff",
                    b"9" * 5000,
                    b"1.5",
                    b"012012",
                    b"2147483648",
                    b"k" * 200,
                    b"app",
                    b"99 -1 x",
                    b"1e9",
                ]
            )
            head, gap, rest = data.partition(b"\0\0")
            fields = [field for field in head.split(b"\0") if not field.startswith(name + b"=")]
            data = b"\0".join([*fields, name + b"=" + value]) + gap + rest
        if chance.random() < 0.2:
            data = chance.choice(
                [data[: chance.randrange(len(data))], broken(chance, data), FORMAT, b"", data + b"\0" * 5000, os.urandom(50)]
            )

        def keep(fd: int) -> int:
            opened.append(fd)
            return fd

        flags = {"/": os.O_RDONLY, "/dev/null": os.O_RDWR, "/dev/zero": os.O_RDONLY, "/proc/self/stat": os.O_RDONLY}
        kinds: list[Callable[[], int]] = [partial(self._open, opened, path, how) for path, how in flags.items()]
        kinds += [lambda: keep(os.memfd_create("empty")), lambda: keep(os.eventfd(0)), self._pipe(opened)]
        first = chance.choice(kinds)() if chance.random() < 0.15 else keep(_memfd(data, seals=chance.choice([0, 14, 15])))
        folder = chance.choice(kinds)() if chance.random() < 0.15 else keep(os.open(self._stage.daemon.app, os.O_RDONLY))
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        opened += [end.detach() for end in ends]
        line = chance.choice(kinds)() if chance.random() < 0.15 else opened[-1]
        found = [first, folder, line, *(kinds[1]() for _ in around.opened)]
        if chance.random() < 0.15:
            found = chance.choice([found[:2], [], found * 2, found[::-1], found + [kinds[0]() for _ in range(30)]])
        return found

    @staticmethod
    def _open(opened: list[int], path: str, how: int) -> int:
        opened.append(os.open(path, how))
        return opened[-1]

    @staticmethod
    def _pipe(opened: list[int]) -> Callable[[], int]:
        def make() -> int:
            ends = os.pipe()
            opened.extend(ends)
            return ends[0]

        return make


def _memfd(data: bytes, seals: int) -> int:
    fd = os.memfd_create("rocksyd-exec", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


class Jobs:
    """The channel of a worker, from inside of its job."""

    VALID: tuple[Value, ...] = (
        *(messages.Progress("MINE", 1.0, 2.0, "half"), messages.Finished("MINE", [1]), messages.Idle(1, 2, 3)),
        *(messages.Result("MINE", value=1, cpu=0.1, max_rss=5), messages.Holding(1, 2, 3, ("MINE",), (1.0,))),
        messages.Result("MINE", ok=False, retcode=1, error={"type": "E", "message": "m", "traceback": ""}),
        *(messages.Exited(5, 9), messages.Forked(1, 2, "app"), messages.Ready("app", 1, 5), messages.Measured("app", ((1, 2),))),
        messages.Workers(((1, 2, "app", 0),)),
    )

    def __init__(self, stage: Stage, chance: random.Random) -> None:
        self._stage = stage
        self._chance = chance

    def round(self) -> None:
        """One run that says some messages: however it ends, it ends, and its caller hears of it."""
        chance = self._chance
        texts = [text.decode("utf-8", "replace")[:20_000] for text in self._texts()]
        self._stage.counts["worker"] += len(texts)
        how = chance.choice(["datagram", "datagram", "datagram", "memfd", "bytes"])
        params = {
            "texts": texts,
            "how": how,
            "seals": chance.choice([14, 14, 0, 15]),
            "descriptors": chance.choice([0, 0, 0, 1, 2, 200]),
        }
        call = {"jsonrpc": "2.0", "id": 1, "method": "call", "params": {"target": "speak", "params": params}}
        with self._stage.daemon.connect() as connection:
            connection.settimeout(PATIENCE)
            connection.sendall(json.dumps(call).encode() + b"\n")
            buffer = b""
            while not buffer.endswith(b"\n"):
                try:
                    data = connection.recv(1 << 16)
                except TimeoutError:
                    raise Finding(f"a job that said this was never heard of again: {params!r}") from None
                if not data:
                    raise Finding(f"the connection of the caller was closed: {params!r}")
                buffer += data
        reply = json.loads(buffer)
        if reply["id"] != 1 or not ("result" in reply or reply["error"]["code"] in (-32000, -32004)):
            raise Finding(f"{reply} is no reply to a call of {params!r}")

    def _texts(self) -> Iterator[bytes]:
        chance = self._chance
        for _ in range(chance.choice([1, 1, 2, 5])):
            data, _ = messages.encode(chance.choice(self.VALID))
            message = json.loads(data)
            if chance.random() < 0.9:
                message = changed(chance, message)
            yield spelt(chance, message)
