"""The longest wait of any request while everything is restarted, under load."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from bench.check import REQUEST
from bench.figures import Report, p50, percentile
from bench.programs import Load, Rocksyd, missing
from bench.servers import ExecDaemon, Gunicorn, GunicornUsr2, Server, Uvicorn

CONNECTIONS = 50
IDLE = 9000
AFTER = 0.1
"""Seconds after the end of a restart in which waits still count."""
PEERS: dict[str, tuple[type[Server], str]] = {
    "a daemon that executes itself, same imports": (ExecDaemon, ""),
    "gunicorn, HUP": (Gunicorn, "gunicorn"),
    "gunicorn --preload, USR2": (GunicornUsr2, "gunicorn"),
    "uvicorn, HUP": (Uvicorn, "uvicorn"),
}


def measure(quick: bool) -> Report:
    report = Report("restart", f"Restart under load: the longest wait of any request over {CONNECTIONS} busy connections")
    with contextlib.ExitStack() as stack:
        daemon, load = _loaded_daemon(stack, 0)
        longest, failed = _waits(lambda: _restart(daemon), load, 10 if quick else 100)
        quiet, _ = _waits(lambda: time.sleep(1.5), load, 3 if quick else 10)
        report.curves["longest"] = sorted(longest)
    report.add("rocksyd, p50", p50(longest), "ms", at_most=10.0, note=f"{len(longest)} restarts")
    report.add("… p99", percentile(longest, 0.99), "ms", at_most=50.0)
    report.add("… requests failed by a closed connection", failed, "", at_most=0)
    report.add("… without a restart, for as long", p50(quiet), "ms")
    with contextlib.ExitStack() as stack:
        daemon, load = _loaded_daemon(stack, 1000 if quick else IDLE)
        longest, failed = _waits(lambda: _restart(daemon), load, 5 if quick else 25)
    report.add(f"rocksyd, {1000 if quick else IDLE} idle connections besides, p50", p50(longest), "ms", at_most=40.0)
    report.add("… longest of all", max(longest), "ms", note=f"{len(longest)} restarts, {failed} requests failed")
    for name, (kind, module) in PEERS.items():
        reason = missing(modules=[module]) if module else ""
        if reason:
            report.left_out.append(f"{name}: there is no {reason}")
            continue
        with kind() as server, Load(server.address, server.request, connections=CONNECTIONS, http=server.http) as load:
            longest, failed = _waits(server.restart, load, 2 if quick else 10)
        report.add(f"{name}, p50", p50(longest), "ms", note=f"{failed / len(longest):.3g} requests failed in each restart")
    return report


def _loaded_daemon(stack: contextlib.ExitStack, idle: int) -> tuple[Rocksyd, Load]:
    daemon = stack.enter_context(Rocksyd())
    with daemon.talk() as talk:
        talk.ask('run {"hash":1,"class":"nothing"}')
        talk.rpc("wait", key="1")
    load = stack.enter_context(Load(daemon.tcp_address, REQUEST, connections=CONNECTIONS, idle=idle))
    time.sleep(0.5)
    return daemon, load


def _restart(daemon: Rocksyd) -> None:
    answer = daemon.restart()
    if answer != {"error_text": "Restarted successfully"}:
        raise RuntimeError(f"{answer}\n{daemon.log()}")


def _waits(restart: Callable[[], None], load: Load, times: int) -> tuple[list[float], int]:
    """The longest wait in ms of each restart, and how many requests were failed in all."""
    longest, failed = [], 0
    for _ in range(times):
        time.sleep(0.2)
        load.seen()
        restart()
        time.sleep(AFTER)
        seen = load.seen()
        longest.append(seen.longest_ms)
        failed += seen.failed
    return longest, failed
