"""Calls: a no-op through workers that are used again and again, one after another and many under way."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

from bench.figures import Report, Rounds
from bench.peers.serve import waits
from bench.programs import Load, Peer, Rocksyd, missing
from bench.rate import Burst
from bench.servers import Gunicorn

POOL = 'pm = "static"\nmax_workers = 2\nmax_jobs = 0'
CALL = b'{"jsonrpc":"2.0","id":1,"method":"call","params":{"target":"nothing"}}\n'
EXECUTOR, CELERY, GUNICORN = "ProcessPoolExecutor", "Celery", "gunicorn gthread"
UNDER_WAY = (1, 8, 64, 128, 256, 1024)
OURS = {
    "rocksyd": "",
    'rocksyd, journal.calls = "failed"': 'journal.calls = "failed"',
    'rocksyd, journal.calls = "before"': 'journal.calls = "before"',
}
Contestant = tuple[Callable[[int], list[float]], Callable[[int], float]]
"""Milliseconds of so many calls one after another; seconds for so many with 64 under way."""


def _rocksyd(daemon: Rocksyd) -> Contestant:
    talk = daemon.talk().socket
    burst = Burst(daemon)
    return lambda count: waits(lambda: daemon.call(talk, CALL), count), lambda count: burst.ask("rate", count)


def _peer(peer: Peer) -> Contestant:
    return lambda count: peer.ask("calls", count), lambda count: peer.ask("rate", count)


def _gunicorn(server: Gunicorn, load: Load) -> Contestant:
    talk = socket.create_connection(("127.0.0.1", server.port))
    talk.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call() -> None:
        talk.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
        if not talk.recv(65536):
            raise ConnectionError("gunicorn closed the connection")

    return lambda count: waits(call, count), lambda count: count / load.rate(1.0)


def measure(quick: bool) -> Report:
    report = Report("calls", "Calls of a no-op, two workers used again and again, the example shop loaded")
    rounds, few, many = (3, 200, 1000) if quick else (9, 1000, 6000)
    sequential, under_way = Rounds(), Rounds()
    with contextlib.ExitStack() as stack:
        found: dict[str, Contestant] = {name: _rocksyd(stack.enter_context(Rocksyd(POOL, top=top))) for name, top in OURS.items()}
        found[EXECUTOR] = _peer(stack.enter_context(Peer("pools.py", "kept")))
        for name, needs in ((CELERY, (["celery"], ["redis-server"])), (GUNICORN, (["gunicorn"], []))):
            reason = missing(modules=needs[0], commands=needs[1])
            if reason:
                report.left_out.append(f"{name}: there is no {reason}")
            elif name == CELERY:
                found[name] = _peer(stack.enter_context(Peer("celery_peer.py", 0)))
            else:
                server = stack.enter_context(Gunicorn())
                load = stack.enter_context(Load(server.address, server.request, connections=8, http=True))
                found[name] = _gunicorn(server, load)
        for number in range(-1, rounds):  # the first round is not counted: everything is warm after it
            for name, (one_by_one, together) in found.items():
                share = 10 if name == CELERY else 1
                waited, took = one_by_one(few // share), together(many // share) / (many // share)
                if number >= 0:
                    sequential.add(name, waited)
                    under_way.add(name, [took])
                time.sleep(0.1)
        _report(report, sequential, under_way)
        _report_under_way(report, rounds, many)
    return report


def _report_under_way(report: Report, rounds: int, count: int) -> None:
    """What a call costs must not depend on how many others are under way."""
    seconds = Rounds()
    costs: dict[int, tuple[float, float]] = {}
    with Rocksyd(f"{POOL}\nmax_queue = 5000") as daemon, daemon.talk() as talk:
        bursts = {number: Burst(daemon, number) for number in UNDER_WAY}
        for number in range(-1, rounds):
            for under_way, burst in bursts.items():
                before = talk.rpc("stats")
                took = burst.ask("rate", count) / count
                after = talk.rpc("stats")
                if number >= 0:
                    seconds.add(str(under_way), [took])
                    costs[under_way] = (
                        (after["journal_commits"] - before["journal_commits"]) / count,
                        (after["journal_rows"] - before["journal_rows"]) / count,
                    )
    for under_way, (commits, rows) in costs.items():
        note = f"{rows:.2f} records and {commits:.3f} transactions of the journal a call"
        report.add(f"{under_way} under way: calls a second", 1 / seconds.value(str(under_way)), "/s", note=note)
    report.add("1,024 under way to 64", seconds.ratio("64", "1024"), "x", at_least=0.9)


def _report(report: Report, sequential: Rounds, under_way: Rounds) -> None:
    report.add("one after another, p50", sequential.value("rocksyd"), "ms", at_most=0.3)
    report.add("… p99", sequential.value("rocksyd", 0.99), "ms")
    report.add("64 under way: calls a second", 1 / under_way.value("rocksyd"), "/s", at_least=8000)
    report.add("… to ProcessPoolExecutor", 1 / under_way.ratio("rocksyd", EXECUTOR), "x", at_least=1.5)
    if CELERY in under_way:
        report.add("… to Celery", 1 / under_way.ratio("rocksyd", CELERY), "x", at_least=10.0)
    for name in sequential.samples:
        if name != "rocksyd":
            rate = 1 / under_way.value(name)
            report.add(f"{name}: one after another, p50", sequential.value(name), "ms", note=f"{rate:,.0f} a second")
