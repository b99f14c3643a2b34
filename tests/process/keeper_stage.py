"""A stage for keeper tests: a real keeper from a copy of the package, and masters that are puppets of the test.

The copy's ``master/main.py`` connects to the test and does what it is told: the test decides every moment, so a master that
hangs is simply one that is told nothing. Nothing in the product knows about this.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[2] / "src" / "rocksyd"
PATIENCE = 60.0
"""Seconds after which an event that does not come fails the test; nothing is asserted about how fast it comes."""

PUPPET = """
import json, os, select, socket, stat, sys
from rocksyd import messages
from rocksyd.errors import ChannelClosed
from rocksyd.posix.channel import Channel, memfd, read_memfd

VERSION = "one"

def show(fd):
    found = os.fstat(fd)
    is_memfd = stat.S_ISREG(found.st_mode)
    text = read_memfd(fd)[:100].decode() if is_memfd else ""
    return [found.st_ino, text]

def make(word, held):
    kind, _, text = word.partition(":")
    if kind == "memfd":
        return memfd("test", text.encode())
    if kind == "held":
        return held.pop(text)
    near, far = socket.socketpair()
    held[text] = far.detach()
    return near.detach()

def main(argv):
    channel = Channel.from_fd(3)
    control = socket.socket(socket.AF_UNIX)
    control.connect(os.environ["STAGE_CONTROL"])
    held = {}
    open_files = len(os.listdir("/proc/self/fd")) - 1
    import resource
    import signal
    report = {"pid": os.getpid(), "version": VERSION, "open": open_files, "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
              "env": dict(os.environ), "argv": sys.orig_argv, "mask": len(signal.pthread_sigmask(signal.SIG_BLOCK, ()))}
    def tell(thing):
        control.sendall(json.dumps(thing).encode() + b"\\n")
    tell(report)
    orders = b""
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(channel, select.POLLIN)
    while True:
        if channel.pending:
            channel.flush()
        for fd, _ in poller.poll(20 if channel.pending else None):
            if fd == channel.fileno():
                while True:
                    try:
                        message = channel.receive()
                    except ChannelClosed:
                        return 0
                    if message is None:
                        break
                    fields = message._asdict()
                    fds = fields.pop("fds", ())
                    tell([type(message).__name__, fields, [show(one) for one in fds]])
                    for one in fds:
                        os.close(one)
            else:
                part = control.recv(65536)
                if not part:
                    return 0
                orders += part
                while b"\\n" in orders:
                    line, _, orders = orders.partition(b"\\n")
                    order = json.loads(line)
                    if "exit" in order:
                        os._exit(order["exit"])
                    if "deaf" in order:
                        poller.unregister(channel)
                        tell("deaf")
                        continue
                    if "hear" in order:
                        poller.register(channel, select.POLLIN)
                        continue
                    if "read" in order:
                        tell(os.read(held[order["read"]], 100).decode())
                        continue
                    if "close" in order:
                        poller.unregister(channel)
                        channel.close()
                        continue
                    if "raw" in order:
                        channel.socket.send(order["raw"].encode())
                        continue
                    name, fields = order["say"]
                    fds = [make(word, held) for word in order.get("fds", ())]
                    cls = getattr(messages, name)
                    if fds:
                        fields["fds"] = tuple(fds)
                    channel.send(cls(**fields))
                    for one in fds:
                        os.close(one)
"""

CHILD = """
import os, select, signal, sys
if "deaf" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "orphan" in sys.argv and os.fork() == 0:
    os.setsid()
    signal.pause()
os.write(3, b"up")
signal.pause()
"""


class Puppet:
    """One master."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        self.file = connection.makefile("rwb")
        self.connection = connection
        self.report = self.hear()
        self.pid: int = self.report["pid"]

    def hear(self) -> Any:
        line = self.file.readline()
        if not line:
            raise EOFError("the master is gone")
        return json.loads(line)

    def order(self, **words: Any) -> None:
        self.file.write(json.dumps(words).encode() + b"\n")
        self.file.flush()

    def say(self, word: str, /, fds: list[str] | None = None, **fields: Any) -> None:
        self.order(say=[word, fields], fds=fds or [])

    def expect(self, name: str) -> tuple[dict[str, Any], list[Any]]:
        heard = self.hear()
        assert heard[0] == name, f"expected {name}, heard {heard}"
        return heard[1], heard[2]

    def silent(self) -> bool:
        """Nothing has been heard that nobody expected (only of use after something that is ordered behind it)."""
        return not select.select([self.connection], [], [], 0)[0]

    def prepare(self, cause: str, **timeouts: float) -> tuple[dict[str, Any], dict[str, Any]]:
        """HELLO; returns what PREPARE says, and the shelf as {name: [inode, text]}."""
        self.say("Hello", pid=self.pid, **timeouts)
        fields, _ = self.expect("Prepare")
        assert fields["cause"] == cause
        return fields, self.shelf(len(fields["shelf"]))

    def shelf(self, count: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while len(found) < count:
            fields, fds = self.expect("Fds")
            found.update(zip(fields["names"], fds, strict=True))
        return found

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def gone(self) -> None:
        """Wait until its process has ended."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                self.hear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.file.close()
        self.connection.close()


class Stage:
    """One keeper and what belongs to it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rocksyd-"))
        self.package = self.folder / "rocksyd"
        self.package.mkdir()
        for name in (
            "__init__.py",
            "boot.py",
            "bounds.py",
            "errors.py",
            "messages.py",
            "shapes.py",
            "exit_status.py",
            "shelf_names.py",
            "units.py",
            "values.py",
        ):
            shutil.copy(SOURCE / name, self.package / name)
        for name in ("posix", "keeper"):
            shutil.copytree(SOURCE / name, self.package / name, ignore=shutil.ignore_patterns("__pycache__"))
        (self.package / "master").mkdir()
        (self.package / "master" / "__init__.py").write_text("")
        (self.package / "master" / "main.py").write_text(PUPPET)
        self.config = self.folder / "rocksyd.toml"
        self.config.write_text("")
        self.log = self.folder / "log"
        self.log.write_text("")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.folder / "control"))
        self.listener.listen(64)
        self.listener.settimeout(PATIENCE)
        self.puppets: list[Puppet] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "STAGE_CONTROL": str(self.folder / "control"), **more}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-I", "-S", str(self.package / "boot.py"), "keeper", "--config", str(self.config), *arguments]

    def start(self, *arguments: str, env: dict[str, str] | None = None, **popen: Any) -> Stage:
        with open(self.log, "ab") as log:
            popen.setdefault("stderr", log)
            self.process = subprocess.Popen(
                self.command(*arguments), stdin=subprocess.DEVNULL, env=self.environment(**(env or {})), **popen
            )
        self.pid = self.process.pid
        return self

    def master(self) -> Puppet:
        """The next master that comes up and lives: one that the keeper has ended meanwhile is passed over."""
        while True:
            try:
                connection, _ = self.listener.accept()
            except TimeoutError as error:
                raise AssertionError(f"no master came up; the keeper's log:\n{self.log.read_text()}") from error
            try:
                puppet = Puppet(connection)
            except EOFError:
                connection.close()
                continue
            if alive(puppet.pid):
                self.puppets.append(puppet)
                return puppet
            puppet.file.close()
            connection.close()

    def serving(self) -> Puppet:
        """The first master, brought to serve."""
        master = self.master()
        master.prepare("start")
        master.say("Prepared")
        master.expect("Adopt")
        master.say("Adopted", generation=1)
        self.settled(master)
        return master

    def settled(self, master: Puppet) -> None:
        """Everything the master said before this has reached the keeper: SPAWN with no program is answered in order."""
        master.say("Spawn", name="nothing")
        fields, _ = master.expect("Spawned")
        assert fields["pid"] == 0

    def spawn(self, master: Puppet, name: str, *words: str) -> int:
        """A child that is up and blocks; returns its PID."""
        near = f"{name}-end"
        master.say("Spawn", name=name, argv=[sys.executable, "-I", "-S", "-c", CHILD, *words], fds=[f"pair:{near}"])
        fields, _ = master.expect("Spawned")
        assert fields["pid"], fields
        master.order(read=near)
        assert master.hear() == "up"
        return int(fields["pid"])

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def wait_for_log(self, text: str, count: int = 1) -> str:
        return wait_for(lambda: self.log.read_text().count(text) >= count and self.log.read_text(), f"{text!r} in {self.log}")

    def close(self) -> None:
        """End the keeper, whatever state it is in, and everything that descends from it."""
        family = [self.pid, *descendants(self.pid)] if self.pid else []
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(PATIENCE)
        for puppet in self.puppets:
            puppet.close()
        self.listener.close()
        for pid in family:
            wait_for(lambda pid=pid: not alive(pid), f"the end of {pid}")
        shutil.rmtree(self.folder)


def wait_for(condition: Any, what: str) -> Any:
    """Poll for something that announces itself nowhere."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited in vain for {what}")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    layer = [pid]
    while layer:
        layer = [child for parent in layer for child in _children(parent)]
        found.extend(layer)
    return found


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
