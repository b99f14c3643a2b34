"""What is started to be measured: rocksyd itself, peers, the client that makes load.

What must live here: starting and stopping. What this file must not know: what is measured with them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import PACKAGE, descendants

BENCH = Path(__file__).resolve().parent
SHOP = BENCH.parent / "examples" / "shop"
PRELOAD = '["django:setup", "shop.urls", "shop.warehouse", "shop.reports", "shop.prices:load", "shop.warm:management"]'
SPARE = 'pm = "dynamic"\nmax_workers = 8\nmin_spare = 2\nmax_spare = 4'
"""As in the example's own configuration."""
ON_DEMAND = 'pm = "ondemand"\nmax_workers = 8'
STOP_TIMEOUT = 15.0
"""Seconds a peer gets to end in order (Celery takes its time); then it and its children are killed."""

_CONFIG = """\
listen = ["unix://d.sock", "tcp://127.0.0.1:{port}"]
auth = "none"
state_dir = "var"
max_connections = 12000
{top}
[apps.app]
path = "{path}"
preload = {preload}
jobs = ["bench_jobs"]
env = {{ PYTHONPATH = "{application}", DJANGO_SETTINGS_MODULE = "shop.settings", BENCH_BALLAST = "{ballast}" }}
huge_pages = {huge}
[apps.app.pool]
{pool}
"""


class Rocksyd(Daemon):
    """A daemon in a folder of its own: with the example shop, or with an application of ``ballast`` MB."""

    def __init__(
        self,
        pool: str = SPARE,
        *,
        ballast: int | None = None,
        huge: bool = True,
        top: str = "",
        preload: str = PRELOAD,
        package: Path = PACKAGE,
    ) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="rocksyd-bench-"))
        self.port = free_port()
        text = _CONFIG.format(
            port=self.port,
            top=top,
            path=SHOP if ballast is None else self.base,
            preload=preload if ballast is None else '["bench_ballast:load"]',
            application=BENCH / "application",
            ballast=ballast or 0,
            huge=str(huge).lower(),
            pool=pool,
        )
        super().__init__(self.base, config=text, package=package)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.base, ignore_errors=True)

    def call(self, talk: socket.socket, line: bytes) -> bytes:
        """One line there, one line back."""
        talk.sendall(line)
        data = b""
        while not data.endswith(b"\n"):
            more = talk.recv(65536)
            if not more:
                raise ConnectionError(f"the daemon closed the connection:\n{self.log()}")
            data += more
        return data

    @property
    def tcp_address(self) -> str:
        return f"127.0.0.1:{self.port}"


class Peer:
    """A program in ``bench/peers`` that does as it is told (``serve.py``)."""

    def __init__(self, script: str, *arguments: object) -> None:
        words = [sys.executable, str(BENCH / "peers" / script), *map(str, arguments)]
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the peer)
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, start_new_session=True
        )
        self._line("ready")

    def ask(self, command: str, number: int = 0) -> Any:
        """Let it carry out one command."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command} {number}\n")
        self.process.stdin.flush()
        return json.loads(self._line())

    def _line(self, expected: str = "") -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line or (expected and line != expected):
            self.errors.seek(0)
            raise RuntimeError(f"{self.process.args} ended or said {line!r}:\n{self.errors.read().decode(errors='replace')}")
        return line

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        family = descendants(self.process.pid)
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            for pid in [*family, self.process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


class Seen(NamedTuple):
    """What the client saw since it was asked last."""

    replies: int
    longest_ms: float
    failed: int
    cpu: float
    """Seconds that it used itself."""


class Load:
    """The client of ``load.c``: ``connections`` times ``depth`` requests always under way, ``idle`` connections besides."""

    def __init__(
        self, address: str, request: str, *, connections: int = 50, depth: int = 1, idle: int = 0, http: bool = False
    ) -> None:
        words = [compiled(), address, connections, depth, idle, "http" if http else "line", request]
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the client could not start: {words}")

    def seen(self) -> Seen:
        """What it saw since the last question."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        replies, longest, failed, cpu = self.process.stdout.readline().split()
        return Seen(int(replies), float(longest) / 1000, int(failed), float(cpu) / 1e6)

    def rate(self, seconds: float) -> float:
        """Replies a second, over so many seconds."""
        self.seen()
        began = time.perf_counter()
        time.sleep(seconds)
        seen = self.seen()
        return seen.replies / (time.perf_counter() - began)

    def __enter__(self) -> Load:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


_compiled: list[str] = []


def compiler() -> str:
    """Path of a C compiler; "" where there is none."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang") or ""


def compiled() -> str:
    """Path of the compiled client; raises FileNotFoundError where there is no C compiler."""
    if not _compiled:
        program = compiler()
        if not program:
            raise FileNotFoundError("no C compiler (cc) for the client that makes load")
        target = BENCH / "results" / "load"
        target.parent.mkdir(exist_ok=True)
        subprocess.run([program, "-O2", "-Wall", "-o", str(target), str(BENCH / "load.c")], check=True)
        _compiled.append(str(target))
    return _compiled[0]


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def missing(*, modules: Sequence[str] = (), commands: Sequence[str] = ()) -> str:
    """Why a peer cannot run here; "" when it can."""
    from importlib.util import find_spec

    wanting = [f"Python package {name}" for name in modules if find_spec(name) is None]
    wanting += [f"command {name}" for name in commands if shutil.which(name) is None]
    return ", ".join(wanting)


def original() -> str:
    """Path of the published Phprocksyd.php, from ``$BENCH_ORIGINAL``; "" where there is none."""
    path = os.environ.get("BENCH_ORIGINAL", "")
    return path if path and shutil.which("php") else ""
