"""Servers that are restarted under load: started, told to restart in their own way, stopped.

What must live here: how each of them restarts and how its end is seen. What this file must not know: how waits are measured.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from bench.programs import BENCH, free_port
from rocksyd.testing.daemon import descendants

PATIENCE = 60.0
SETTLE = 5.0


class Server:
    """One of them. ``restart`` returns when the new code serves everybody."""

    http = True
    request = "GET / HTTP/1.1\\r\\nHost: bench\\r\\n\\r\\n"

    def __init__(self) -> None:
        self.port = free_port()
        output = None if os.environ.get("BENCH_DEBUG") else subprocess.DEVNULL
        environment = {**os.environ, "PYTHONPATH": str(BENCH / "application")}
        self.process = subprocess.Popen(
            self.words(),
            env=environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._wait(self._accepts, "its port")

    def words(self) -> list[str]:
        """The command that starts it."""
        raise NotImplementedError

    def restart(self) -> None:
        """Do it and wait for its end."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def _wait(self, condition: object, what: str) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():  # type: ignore[operator]
            if time.monotonic() > until or self.process.poll() not in (None, 0):
                raise RuntimeError(f"{type(self).__name__} does not show {what}")
            time.sleep(0.01)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for pid in self.everybody():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def everybody(self) -> Iterator[int]:
        """PIDs of all its processes."""
        yield from descendants(self.process.pid)
        yield self.process.pid


class ExecDaemon(Server):
    """Restarts by execve, as the published daemon does."""

    http = False
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
        return [_script("gunicorn"), *(["--preload"] if self.preload else []), *words]

    def restart(self) -> None:
        _replaced_by_hup(self)


class GunicornUsr2(Gunicorn):
    """USR2: a second master with the application preloaded, then TERM to the first."""

    preload = True

    def __init__(self) -> None:
        super().__init__()
        self.master = self.process.pid

    def restart(self) -> None:
        old = set(descendants(self.master))
        os.kill(self.master, signal.SIGUSR2)
        found: list[int] = []

        def two_workers_of_a_new_master() -> bool:
            found[:] = [pid for pid in descendants(self.master) if pid not in old]
            return len(found) >= 3

        self._wait(two_workers_of_a_new_master, "a second master with two workers")
        new = next(pid for pid in found if set(descendants(pid)) >= set(found) - {pid})
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
        words += ["--timeout-worker-healthcheck", "60"]  # else it keeps the old code where the new takes 5 s to load
        return [_script("uvicorn"), *words]

    def restart(self) -> None:
        _replaced_by_hup(self)


def _script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _replaced_by_hup(server: Server) -> None:
    old = set(descendants(server.process.pid))
    os.kill(server.process.pid, signal.SIGHUP)
    server._wait(lambda: not _workers(server, old), "new workers")
    time.sleep(SETTLE)  # a new worker is there before it has imported the application


def _workers(server: Server, among: set[int]) -> set[int]:
    """Those of ``among`` that still are its children, helpers of multiprocessing left out."""
    return {pid for pid in descendants(server.process.pid) if pid in among and b"resource_tracker" not in _words(pid)}


def _words(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
