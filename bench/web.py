"""Web pools: what clients see of deploys, and the CPU that a request costs, beside other servers of the same application."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import php_fpm
from bench.figures import Report, Rounds, percentile
from bench.programs import BENCH, Load, free_port, missing
from bench.servers import PATIENCE, Gunicorn, Server, Uvicorn, replaced_by_hup, script
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import descendants

CONNECTIONS = 24
ASKED_RATE = 200.0
"""Requests a second, beside which a deploy is asked to fail none."""
BETWEEN = 1.0
"""Seconds between two deploys, so that there are requests to be seen also where one takes no time."""
_TICK = os.sysconf("SC_CLK_TCK")
_CONFIG = """\
listen = ["unix://d.sock"]
state_dir = "var"
[apps.app]
path = "{application}"
[apps.app.web]
{interface} = "{target}"
listen = ["http://127.0.0.1:{port}"]
{web}
[apps.app.pools.web]
{pool}
"""


class Web(Daemon):
    """rocksyd, with a web pool of two workers."""

    def __init__(self, interface: str, target: str = "", *, web: str = "", pool: str = 'pm = "static"\nmax_workers = 2') -> None:
        self.base = Path(tempfile.mkdtemp(prefix="rocksyd-bench-"))
        self.port = free_port()
        application = BENCH / "application"
        target = target or f"bench_web:{interface}"
        text = _CONFIG.format(application=application, interface=interface, target=target, port=self.port, web=web, pool=pool)
        super().__init__(self.base, config=text)

    def start(self, *arguments: str) -> None:
        self.spawn(*arguments)
        self.wait_notified("READY=1", PATIENCE)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def deploy(self) -> None:
        answer = self.restart()
        if answer != {"error_text": "Restarted successfully"}:
            raise RuntimeError(f"{answer}\n{self.log()}")

    def close(self) -> None:
        import shutil

        super().close()
        shutil.rmtree(self.base, ignore_errors=True)


class Granian(Server):
    """HUP: its workers are replaced."""

    def words(self) -> list[str]:
        words = f"--interface asgi --workers 2 --port {self.port} --log-level error --no-access-log bench_web:asgi".split()
        return [script("granian"), *words]

    def restart(self) -> None:
        replaced_by_hup(self)


PEERS: dict[str, tuple[type[Server], Callable[[], str]]] = {
    "gunicorn gthread, HUP": (Gunicorn, lambda: missing(modules=["gunicorn"])),
    "uvicorn, HUP": (Uvicorn, lambda: missing(modules=["uvicorn"])),
    "granian, HUP": (Granian, lambda: missing(modules=["granian"])),
    "php-fpm behind nginx, USR2": (php_fpm.PhpFpm, php_fpm.lacking),
}
"""How each is started, and why it cannot be here; "" where it can."""


class Clients:
    """Those of ``peers/web_client.py``."""

    def __init__(self, port: int) -> None:
        words = [sys.executable, str(BENCH / "peers" / "web_client.py"), str(port), str(CONNECTIONS)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the clients have ended")
        return line

    def seen(self) -> dict[str, Any]:
        """What they saw since they were asked last."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self._line())
        return found

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def measure(quick: bool) -> Report:
    report = Report("web", f"Deploys beside {CONNECTIONS} kept connections with think times and posts, and the CPU of a request")
    deploys = 3 if quick else 20
    with contextlib.ExitStack() as stack:
        for interface in ("asgi", "wsgi"):
            daemon = stack.enter_context(Web(interface))
            _deploys(report, f"rocksyd, {interface}", daemon.port, daemon.deploy, deploys)
    for name, (kind, lacking) in PEERS.items():
        if reason := lacking():
            report.left_out.append(f"{name}: there is no {reason}")
            continue
        try:
            with kind() as server:
                _deploys(report, name, server.port, server.restart, deploys)
        except (
            RuntimeError
        ) as error:  # it never began, or came to no end of its own restart: the others are measured all the same
            report.left_out.append(f"{name}: {error}")
    _costs(report, quick)
    return report


def _deploys(report: Report, name: str, port: int, deploy: Any, times: int) -> None:
    ours = name.startswith("rocksyd")
    with Clients(port) as clients:
        time.sleep(1.0)
        clients.seen()
        time.sleep(3.0)
        steady = clients.seen()
        began = time.monotonic()
        for _ in range(times):
            deploy()
            time.sleep(BETWEEN)
        during = clients.seen()
        rate = during["answered"] / (time.monotonic() - began)
    limit = 0 if ours else None
    report.add(f"{name}: requests a second during {times} deploys", rate, at_least=ASKED_RATE if ours else None)
    report.add(f"{name}: requests failed in {times} deploys", during["failed"], at_most=limit, note=f"of {during['answered']}")
    report.add(f"{name}: … connections that had to be made again", during["reconnects"], at_most=limit)
    ratio = percentile(during["waits"], 0.99) / percentile(steady["waits"], 0.99)
    note = f"steady {1000 * percentile(steady['waits'], 0.99):.1f} ms"
    report.add(f"{name}: … p99 of a request, to that without a deploy", ratio, "x", at_most=1.25 if ours else None, note=note)


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process and its children have used."""
    total = 0.0
    for one in [pid, *descendants(pid)]:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / _TICK
    return total


def _costs(report: Report, quick: bool) -> None:
    """Microseconds of CPU a request, in turns."""
    rounds, seconds, costs = (2, 1.0, Rounds()) if quick else (7, 3.0, Rounds())
    request = Server.request
    with contextlib.ExitStack() as stack:
        servers: dict[str, Any] = {f"rocksyd, {one}": stack.enter_context(Web(one)) for one in ("asgi", "wsgi")}
        for name, kind, module in (("uvicorn", Uvicorn, "uvicorn"), ("gunicorn gthread", Gunicorn, "gunicorn")):
            if not missing(modules=[module]):
                servers[name] = stack.enter_context(kind())
        for _ in range(rounds):
            for name, server in servers.items():
                with Load(server.address, request, connections=16, http=True) as load:
                    time.sleep(0.3)
                    load.seen()
                    before = _cpu(server.process.pid)
                    time.sleep(seconds)
                    replies = load.seen().replies
                    costs.add(name, [1e6 * (_cpu(server.process.pid) - before) / max(replies, 1)])
    for ours, theirs, limit in (("rocksyd, asgi", "uvicorn", 1.25), ("rocksyd, wsgi", "gunicorn gthread", 0.5)):
        if theirs in costs:
            note = f"{costs.value(ours):.0f} µs and {costs.value(theirs):.0f} µs"
            report.add(f"CPU a request: {ours}, to {theirs}", costs.ratio(ours, theirs), "x", at_most=limit, note=note)
