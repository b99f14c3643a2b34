"""Servers that are restarted under load: started, told to restart in their own way, stopped.

What must live here: how each of them restarts and how its end is seen. What this file must not know: how waits are measured.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from bench.programs import BENCH, free_port
from rocksyd.testing.daemon import descendants

PATIENCE = 600.0
"""Seconds after which a server is given up: many, because other work on the machine is no fault of it."""
SETTLE = 5.0


class Server:
    """One of them. ``restart`` returns when the new code serves everybody."""

    http = True
    request = "GET / HTTP/1.1\\r\\nHost: bench\\r\\n\\r\\n"
    loads = 2
    """Its processes that load the application; each says so when it has (``bench_web``)."""

    says = "BENCH_SAID"
    """The variable that tells them where."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="rocksyd-bench-"))
        self.said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.said.bind(str(self.folder / "said"))
        self.output = (self.folder / "output").open("w+")
        self.process = self.started(self.words())
        try:
            self.wait_loaded(self.loads)
            self.wait_answer()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def started(self, words: list[str]) -> subprocess.Popen[bytes]:
        """A process of it."""
        output = None if os.environ.get("BENCH_DEBUG") else self.output
        environment = {**os.environ, "PYTHONPATH": str(BENCH / "application"), self.says: str(self.folder / "said")}
        null = subprocess.DEVNULL
        return subprocess.Popen(words, env=environment, stdout=output, stderr=output, stdin=null, start_new_session=True)

    def words(self) -> list[str]:
        """The command that starts it."""
        raise NotImplementedError

    def restart(self) -> None:
        """Do it and wait for its end."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def wait_loaded(self, number: int) -> None:
        """Wait until so many processes have loaded the application; raises RuntimeError if it ends instead."""
        loaded: set[bytes] = set()
        while len(loaded) < number:
            loaded.add(self.heard("the application loaded"))

    def heard(self, what: str) -> bytes:
        """The next that one of its processes says; raises RuntimeError if it ends instead, or says nothing."""
        end = os.pidfd_open(self.process.pid)
        try:
            ready, _, _ = select.select([self.said, end], [], [], PATIENCE)
        finally:
            os.close(end)
        if self.said not in ready:
            raise self._trouble(what)
        return self.said.recv(4096)

    def wait_answer(self) -> None:
        """Wait until a request is answered."""
        self._wait(self._answers, "an answer")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), PATIENCE) as talk:
            talk.sendall(self.request.encode().decode("unicode_escape").encode())
            return bool(talk.recv(4096))
        return False

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > until or self.process.poll() not in (None, 0):
                raise self._trouble(what)
            time.sleep(0.01)

    def _trouble(self, what: str) -> RuntimeError:
        self.output.seek(0)
        return RuntimeError(f"{type(self).__name__} does not show {what}: {self.output.read()[-2000:]}")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for pid in self.everybody():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.output.close()
        self.said.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def everybody(self) -> Iterator[int]:
        """PIDs of all its processes."""
        yield from descendants(self.process.pid)
        yield self.process.pid


class ExecDaemon(Server):
    """Restarts by execve, as the published daemon does."""

    http = False
    loads = 0
    request = 'check {"hash":1}\\n'

    def words(self) -> list[str]:
        return [sys.executable, str(BENCH / "peers" / "execd.py"), str(self.port)]

    def restart(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as talk:
            talk.sendall(b"restart\n")
            talk.recv(4096)


class Gunicorn(Server):
    """HUP: the workers are replaced, and each new one imports the application."""

    preload = False

    def words(self) -> list[str]:
        words = f"-w 2 -k gthread --threads 25 --keep-alive 75 --log-level error -b 127.0.0.1:{self.port} bench_web:wsgi".split()
        words += ["--timeout", str(int(PATIENCE))]  # else it kills a worker that takes 30 s to load
        return [script("gunicorn"), *(["--preload"] if self.preload else []), *words]

    def restart(self) -> None:
        replaced_by_hup(self)


class GunicornUsr2(Gunicorn):
    """USR2: a second master with the application preloaded, then TERM to the first."""

    preload = True
    loads = 1

    def __init__(self) -> None:
        super().__init__()
        self.master = self.process.pid

    def restart(self) -> None:
        old = set(descendants(self.master))
        os.kill(self.master, signal.SIGUSR2)
        found: list[int] = []

        self.said.settimeout(PATIENCE)
        self.said.recv(4096)  # by the second master: it has loaded the application

        def has_two_workers() -> bool:
            found[:] = [pid for pid in descendants(self.master) if pid not in old and len(descendants(pid)) >= 2]
            return bool(found)

        self._wait(has_two_workers, "a second master with two workers")
        new = found[0]
        os.kill(self.master, signal.SIGTERM)
        before, self.master = self.master, new
        self._wait(lambda: not _alive(before), "the end of the first master")
        time.sleep(SETTLE)  # until the second has noticed: before, it takes no further USR2

    def everybody(self) -> Iterator[int]:
        yield from descendants(self.master)
        yield self.master


class Uvicorn(Server):
    """HUP: its workers are replaced one after the other."""

    def words(self) -> list[str]:
        words = f"bench_web:asgi --workers 2 --port {self.port} --log-level error --no-access-log".split()
        words += [
            "--timeout-worker-healthcheck",
            str(int(PATIENCE)),
        ]  # else it keeps the old code where the new takes 5 s to load
        return [script("uvicorn"), *words]

    def restart(self) -> None:
        replaced_by_hup(self)


def script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def replaced_by_hup(server: Server) -> None:
    """Tell it to replace its workers; all new ones have loaded the application, the old ones have ended, and it answers."""
    with contextlib.ExitStack() as stack:
        ends = []
        for pid in descendants(server.process.pid):
            if b"resource_tracker" not in _words(pid):
                with contextlib.suppress(ProcessLookupError):
                    ends.append(os.pidfd_open(pid))
                    stack.callback(os.close, ends[-1])
        os.kill(server.process.pid, signal.SIGHUP)
        server.wait_loaded(server.loads)
        for end in ends:
            if not select.select([end], [], [], PATIENCE)[0]:
                raise server._trouble("the end of its old workers")
    server.wait_answer()


def _words(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
