"""A real zygote with a fake master: the test's own process, which decides when anything happens.

with Zygote(tmp_path, {"shop": SOURCE}, jobs=("shop",)) as zygote:
    zygote.ready()
    worker = zygote.fork()
    result = worker.run("shop:daily", [1])
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import rocksyd
from rocksyd import messages
from rocksyd.errors import ChannelClosed
from rocksyd.posix.channel import Channel, pair

BOOT = str(Path(rocksyd.__file__).parent / "boot.py")
PYTHON = os.environ.get("ROCKSYD_TEST_PYTHON", sys.executable)
"""The application's interpreter, which need not be the one that runs the tests."""
PATIENCE = 60.0
"""Seconds after which a test that waits for an event has failed. Nothing is ever expected to take long."""

M = TypeVar("M")


class Mailbox:
    """A channel that can be asked for the next message of one type; others are kept for later."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._kept: list[Any] = []

    def send(self, message: Any) -> None:
        self.channel.send(message)

    def next(self, kind: type[M], timeout: float = PATIENCE) -> M:
        for index, message in enumerate(self._kept):
            if isinstance(message, kind):
                del self._kept[index]
                return message
        while True:
            message = self.channel.wait(timeout)
            assert message is not None, f"no {kind.__name__} came; kept: {self._kept}"
            if isinstance(message, kind):
                return message
            self._kept.append(message)

    def at_end(self) -> bool:
        """Wait until the other end is closed; false when a message comes instead."""
        try:
            message = self.channel.wait(PATIENCE)
        except ChannelClosed:
            return True
        assert message is not None, "neither the end nor a message came"
        self._kept.append(message)
        return False

    def close(self) -> None:
        for message in self._kept:
            for fd in getattr(message, "fds", ()):
                os.close(fd)
        self._kept.clear()
        self.channel.close()


class WorkerEnd(Mailbox):
    """The master's side of one worker."""

    def __init__(self, forked: messages.Forked, folder: Path) -> None:
        super().__init__(Channel.from_fd(forked.fds[0]))
        self.number = forked.worker
        self.pid = forked.pid
        self.log = folder / f"worker-{forked.worker}.log"

    def start(self, target: str, params: Any = None, **fields: Any) -> str:
        """Send JOB; the run's key."""
        key = fields.pop("key", f"run-{self.number}")
        self.send(messages.Job(key=key, target=target, params=params, log=str(self.log), **fields))
        return key

    def run(self, target: str, params: Any = None, **fields: Any) -> messages.Result:
        """JOB, RESULT, JOB_ACK."""
        key = self.start(target, params, **fields)
        result = self.next(messages.Result)
        assert result.key == key
        self.send(messages.JobAck(key))
        return result

    @property
    def output(self) -> str:
        return self.log.read_text()


class Zygote(Mailbox):
    """A zygote that has been sent LOAD, until the end of the ``with`` block."""

    def __init__(self, folder: Path, modules: dict[str, str], python: str = PYTHON, boot: str = BOOT, **load: Any) -> None:
        self.folder = folder
        self.path = folder / "app"
        self.path.mkdir(exist_ok=True)
        for name, source in modules.items():
            (self.path / f"{name}.py").write_text(textwrap.dedent(source))
        self.stderr = folder / "zygote.log"
        mine, theirs = pair()
        try:
            self.pid = _spawn([python, boot, "zygote"], theirs.fileno(), self.stderr)
        finally:
            theirs.close()
        super().__init__(Channel(mine))
        self.exit_status: int | None = None
        self._workers: list[WorkerEnd] = []
        fields = {"app": "shop", "generation": 7, "path": str(self.path), **load}
        fields["settings"] = {"huge_pages": False, "grace": 5.0, **load.get("settings", {})}
        self.send(messages.Load(**fields))

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            if kind is not None and self.exit_status is None:
                os.kill(self.pid, signal.SIGTERM)
        for worker in self._workers:
            worker.close()
        self.close()
        self.wait()

    def ready(self) -> messages.Ready:
        message = self.channel.wait(PATIENCE)
        assert isinstance(message, messages.Ready), f"{message}\n{self.stderr.read_text()}"
        return message

    def failed(self) -> messages.Failed:
        """FAILED, and then nothing more: the zygote has left."""
        message = self.channel.wait(PATIENCE)
        assert isinstance(message, messages.Failed), message
        assert self.at_end()
        assert self.wait() == 1
        return message

    def order_fork(self, number: int, pool: str = "main", slot: int = -1) -> WorkerEnd:
        self.send(messages.Fork(worker=number, pool=pool, slot=slot))
        forked = self.next(messages.Forked)
        assert (forked.worker, forked.pool, forked.slot) == (number, pool, slot)
        return self.adopt(forked)

    def adopt(self, forked: messages.Forked) -> WorkerEnd:
        worker = WorkerEnd(forked, self.folder)
        self._workers.append(worker)
        return worker

    def fork(self) -> WorkerEnd:
        return self.order_fork(len(self._workers) + 1)

    def exited(self, worker: WorkerEnd) -> messages.Exited:
        """EXITED of this worker, acknowledged."""
        exited = self.next(messages.Exited)
        assert (exited.pid, exited.worker) == (worker.pid, worker.number)
        self.send(messages.ExitAck((exited.pid,)))
        return exited

    def run(self, target: str, params: Any = None, **fields: Any) -> tuple[messages.Result, str]:
        """One job in a worker of its own: RESULT and its output."""
        worker = self.fork()
        result = worker.run(target, params, **fields)
        assert self.exited(worker).status == 0
        return result, worker.output

    def wait(self) -> int:
        """The zygote's exit status, negative for a signal."""
        if self.exit_status is None:
            wait_for_end(self.pid)
            self.exit_status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.exit_status

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def _spawn(argv: list[str], channel: int, stderr: Path) -> int:
    log = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    # The channel may be descriptor 3 itself, and dup2 onto itself would leave it close-on-exec.
    high = os.dup(channel)
    try:
        actions = [
            (os.POSIX_SPAWN_DUP2, high, 3),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
            *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()),
        ]
        return os.posix_spawn(argv[0], argv, dict(os.environ), file_actions=actions, setsid=True)
    finally:
        os.close(high)
        os.close(log)


def _inheritable() -> list[int]:
    """What every program started by this process would find open besides 0, 1 and 2, left by whoever started the tests."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 3 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def wait_for_end(pid: int) -> None:
    """Wait until process ``pid``, a child or not, has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(PATIENCE * 1000), f"process {pid} has not ended"
    finally:
        os.close(fd)


@contextlib.contextmanager
def fifo(folder: Path, name: str = "event") -> Iterator[Path]:
    """A named pipe through which a job tells the test that something has happened."""
    path = folder / name
    os.mkfifo(path)
    yield path
    path.unlink()


def heard(path: Path) -> str:
    """Wait until somebody has written into the pipe and closed it; what was written."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    parts = []
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while poll.poll(PATIENCE * 1000):
            part = os.read(fd, 65536)
            if not part:
                return b"".join(parts).decode()
            parts.append(part)
        raise AssertionError(f"nothing came through {path.name}")
    finally:
        os.close(fd)
