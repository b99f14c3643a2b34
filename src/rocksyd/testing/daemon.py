"""A real daemon for tests: started in a folder of its own, waited for by an event, stopped with an assertion.

    with Daemon(tmp_path, "from rocksyd import job\\n\\n@job\\ndef add(a, b):\\n    return a + b\\n") as daemon:
        assert daemon.client().call("add", 1, 2) == 3

Nothing sleeps: ready is what the daemon tells a service manager (``READY=1``), ended is the end of its process.
"""

from __future__ import annotations

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import rocksyd
from rocksyd.client import Client
from rocksyd.units import format_duration

PACKAGE = Path(next(iter(rocksyd.__path__)))
TIMEOUT = 60.0
"""Seconds after which a test gives up on something that should have happened long before."""

CONFIG = """\
listen = ["unix://d.sock"]
state_dir = "var"
{top}
[apps.app]
path = "app"
jobs = ["jobs"]
{app}
[apps.app.pool]
{pool}
"""
POOL = 'pm = "dynamic"\nmax_workers = 4\nmin_spare = 1\nmax_spare = 2\ngrace = "30s"'


class DaemonError(AssertionError):
    """The daemon did not do what the test waits for; the message ends with its log."""


class Conversation:
    """One connection in the classic dialect (any dialect, really): lines out, lines in."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(TIMEOUT)
        self._buffer = b""

    def send(self, *lines: str | bytes) -> None:
        """Send lines in one write."""
        self.socket.sendall(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))

    def line(self) -> bytes:
        """The next line, without its end; ``b""`` at the end of the connection."""
        while b"\n" not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                rest, self._buffer = self._buffer, b""
                return rest
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def ask(self, line: str | bytes) -> dict[str, Any]:
        """Send one line and return the JSON object that comes back."""
        self.send(line)
        reply = self.line()
        if not reply:
            raise ConnectionError(f"the daemon closed the connection instead of answering {line!r}")
        answer: dict[str, Any] = json.loads(reply)
        return answer

    def rpc(self, method: str, **params: Any) -> Any:
        """One JSON-RPC call; the result, or AssertionError with the error."""
        reply = self.ask(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
        if "error" in reply:
            raise AssertionError(f"{method}: {reply['error']}")
        return reply["result"]

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Daemon:
    """A daemon with one application ``app`` whose jobs are in ``jobs.py``. Use as a context manager.

    Args:
        folder: an empty folder of the test's own. The socket lives in a short-named one, because of its 107 bytes.
        jobs: the text of ``jobs.py``.
        config: the text of ``rocksyd.toml`` instead of the usual one; or ``top``, ``app``, ``pool``: lines for its parts.
        package: the folder of another copy of rocksyd to run.
        environment: variables added to the daemon's.
        prefix: a command that executes the daemon in its own place, such as ``("prlimit", "--nofile=256")``.
        stderr: the descriptor to write the log to, instead of a file in the folder.
    """

    def __init__(  # noqa: PLR0913  (what a test says once, where it starts its daemon)
        self,
        folder: Path,
        jobs: str = "",
        *,
        config: str | None = None,
        parts: Mapping[str, str] | None = None,
        package: Path = PACKAGE,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        stderr: int | None = None,
    ) -> None:
        self.folder = folder
        self.prefix = tuple(prefix)
        self.stderr = stderr
        self.package = package
        self.environment = dict(environment or {})
        self.app = folder / "app"
        self.app.mkdir(parents=True, exist_ok=True)
        (self.app / "jobs.py").write_text(jobs)
        self.config = folder / "rocksyd.toml"
        self.config.write_text(config or CONFIG.format(**{"top": "", "app": "", "pool": POOL, **(parts or {})}))
        self.log_path = folder / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._short = Path(tempfile.mkdtemp(prefix="rocksyd-t-"))
        self._link = self._short / "f"
        self._link.symlink_to(folder, target_is_directory=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self._short / "n"))
        self._conversations: list[Conversation] = []
        self.notified: list[str] = []

    # --- beginning and end --------------------------------------------------------------------------------------------
    def __enter__(self) -> Daemon:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and self.process is not None and self.process.poll() is None:
                self.stop()
        finally:
            if kind is not None:
                sys.stderr.write(f"--- {self.log_path}\n{self.log()}\n")
            self.close()

    def spawn(self, *arguments: str) -> None:
        """Start the daemon's process without waiting for it to be ready."""
        while select.select([self._notify], [], [], 0)[0]:
            self._notify.recv(65536)  # of the process before
        words = [
            *self.prefix,
            sys.executable,
            "-I",
            "-S",
            str(self.package / "boot.py"),
            "keeper",
            "--config",
            str(self._link / "rocksyd.toml"),
        ]
        environment = {**os.environ, "ROCKSYD_LOG": "text", "NOTIFY_SOCKET": str(self._short / "n"), **self.environment}
        with self.log_path.open("ab") as log:
            output = log if self.stderr is None else self.stderr
            self.process = subprocess.Popen(
                [*words, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=self.folder
            )

    def start(self, *arguments: str) -> None:
        """Start the daemon and wait until it says READY=1. Raises DaemonError when it ends instead."""
        self.spawn(*arguments)
        self.wait_notified("READY=1")

    def wait_notified(self, word: str, timeout: float = TIMEOUT) -> str:
        """Wait until the daemon tells its service manager ``word``; returns the whole message."""
        assert self.process is not None
        until = time.monotonic() + timeout
        end = os.pidfd_open(self.process.pid)
        try:
            while time.monotonic() < until:
                ready, _, _ = select.select([self._notify.fileno(), end], [], [], max(0.0, until - time.monotonic()))
                if self._notify.fileno() in ready:
                    text = self._notify.recv(65536).decode()
                    self.notified.append(text)
                    if word in text.split("\n"):
                        return text
                elif end in ready:
                    raise DaemonError(f"the daemon ended (status {self.process.wait()}) instead of saying {word}:\n{self.log()}")
        finally:
            os.close(end)
        raise DaemonError(f"the daemon did not say {word} in {format_duration(timeout)}:\n{self.log()}")

    def stop(self, number: int = signal.SIGTERM, status: int = 0) -> None:
        """Order it to stop and see that it does, with this exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        self.wait(status)

    def wait(self, status: int | None = 0) -> int:
        """Wait for the end of the daemon."""
        assert self.process is not None
        try:
            found = self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise DaemonError(f"the daemon did not stop in {format_duration(TIMEOUT)}:\n{self.log()}") from None
        if status is not None and found != status:
            raise DaemonError(f"the daemon exited with status {found}, not {status}:\n{self.log()}")
        return found

    def close(self) -> None:
        """End whatever is left, without asking."""
        for conversation in self._conversations:
            conversation.close()
        if self.process is not None and self.process.poll() is None:
            for pid in [*descendants(self.process.pid), self.process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.process.wait()
        self._notify.close()
        shutil.rmtree(self._short, ignore_errors=True)

    # --- talking ------------------------------------------------------------------------------------------------------
    @property
    def address(self) -> str:
        """Of the unix socket, short enough for the kernel."""
        return f"unix://{self._link}/d.sock"

    def connect(self) -> socket.socket:
        """A new connection to the unix socket."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(TIMEOUT)
            connection.connect(str(self._link / "d.sock"))
        except BaseException:
            connection.close()
            raise
        return connection

    def talk(self) -> Conversation:
        """A new conversation; closed with the daemon."""
        conversation = Conversation(self.connect())
        self._conversations.append(conversation)
        return conversation

    def client(self) -> Client:
        """The Python client."""
        return Client(self.address)

    def log(self) -> str:
        """What the daemon and its children have written to standard error."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    # --- looking ------------------------------------------------------------------------------------------------------
    @property
    def pid(self) -> int:
        """The service's PID: the keeper's."""
        assert self.process is not None
        return self.process.pid

    def children(self, title: str) -> list[int]:
        """PIDs of the descendants whose process title begins with ``title``, such as ``rocksyd: master``."""
        return [pid for pid in descendants(self.pid) if command_line(pid).startswith(title)]

    @property
    def master_pid(self) -> int:
        """The serving master's, as it says itself."""
        with Conversation(self.connect()) as conversation:
            pid: int = conversation.rpc("stats")["master_pid"]
            return pid

    def descriptors(self, pid: int) -> dict[int, str]:
        """What a process has open: number and what it points to.

        But for the library libffi, which since 3.8 keeps its own file open in each process that has imported ``ctypes``.
        """
        folder = f"/proc/{pid}/fd"
        found = {}
        for name in os.listdir(folder):
            try:
                target = os.readlink(f"{folder}/{name}")
            except FileNotFoundError:
                continue
            if "/libffi.so" not in target:
                found[int(name)] = target
        return found

    def wait_shelved(self, connections: int) -> None:
        """Wait until the keeper holds at least this many clients' connections: a younger one does not outlive its master."""
        until(lambda: _shelved_connections(self) >= connections, f"{connections} connections on the shelf")

    def restart(self) -> dict[str, Any]:
        """Order a restart and return the reply."""
        with Conversation(self.connect()) as conversation:
            return conversation.ask("restart")


def _shelved_connections(daemon: Daemon) -> int:
    """How many clients' connections the keeper holds: those sockets that the serving master has as well."""
    held = {inode for inode in daemon.descriptors(daemon.pid).values() if inode.startswith("socket:")}
    serving = {inode for inode in daemon.descriptors(daemon.master_pid).values() if inode.startswith("socket:")}
    zygotes = len(daemon.children("rocksyd: zygote"))
    with Conversation(daemon.connect()) as conversation:
        health = conversation.rpc("health")
        listeners = len(health["listen"]) + len(health["exec"])
    return len(held & serving) - zygotes - listeners


def until(condition: Callable[[], object], what: str, timeout: float = TIMEOUT) -> None:
    """Look until ``condition`` holds; for what no event can be had of. Raises DaemonError naming ``what``."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise DaemonError(f"waited {format_duration(timeout)} in vain for: {what}")
        time.sleep(0.005)


def descendants(pid: int) -> list[int]:
    """PIDs of all living descendants, children before grandchildren."""
    found = []
    for task in _children(pid):
        found.append(task)
        found += descendants(task)
    return found


def _children(pid: int) -> list[int]:
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found += [int(word) for word in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    except OSError:
        pass
    return found


def command_line(pid: int) -> str:
    """The process title; "" for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def copy_package(folder: Path) -> Path:
    """A copy of rocksyd that a test may break. Returns the folder to give to ``Daemon(package=...)``.

    What Python has compiled comes along, so that each copy need not be compiled anew: it is not used for a file that is edited.
    """
    target = folder / "rocksyd"
    shutil.copytree(PACKAGE, target, ignore=_not_of_a_copy)
    return target


def _not_of_a_copy(folder: str, names: list[str]) -> list[str]:
    """Files that another process is just compiling have other names, and are gone the next moment."""
    return [name for name in names if not name.endswith(".pyc")] if os.path.basename(folder) == "__pycache__" else []


@contextmanager
def edited(path: Path, text: str) -> Iterator[None]:
    """Replace a file's text for a while."""
    before = path.read_bytes()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_bytes(before)
