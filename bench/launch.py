"""Launch: from submitting a job to its first line, and to its end being known to who waits for it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

from bench.figures import Report, Rounds
from bench.peers.serve import GAP, launches
from bench.programs import ON_DEMAND, SPARE, Peer, Rocksyd, missing, original

Samples = dict[str, list[float]]
CALL = b'{"jsonrpc":"2.0","id":1,"method":"call","params":{"target":"first_line"}}\n'
PEERS = {
    "multiprocessing, forkserver with preload": ("pools.py", "forkserver"),
    "ProcessPoolExecutor(max_tasks_per_child=1)": ("pools.py", "executor"),
    "RQ": ("rq_peer.py",),
    "Celery, a fork for every job": ("celery_peer.py", 1),
    "Celery, children kept": ("celery_peer.py", 0),
    "cold `python job.py`": ("cold.py",),
}
NEEDS = {"rq_peer.py": (["rq"], ["redis-server"]), "celery_peer.py": (["celery"], ["redis-server"])}


class Caller:
    """Calls jobs of a daemon over one open connection."""

    def __init__(self, daemon: Rocksyd) -> None:
        self.daemon = daemon
        self.talk = daemon.talk().socket

    def launch(self) -> tuple[float, float, float, float]:
        asked = time.monotonic_ns()
        reply = self.daemon.call(self.talk, CALL)
        heard = time.monotonic_ns()
        began, ended = json.loads(reply)["result"]["result"]
        return asked, began, ended, heard

    def ask(self, command: str, count: int) -> Samples:
        return launches(self.launch, count)


def available(report: Report) -> dict[str, tuple[Any, ...]]:
    """The peers that can run here."""
    found = {}
    for name, words in PEERS.items():
        modules, commands = NEEDS.get(str(words[0]), ((), ()))
        reason = missing(modules=modules, commands=commands)
        if reason:
            report.left_out.append(f"{name}: there is no {reason}")
        else:
            found[name] = words
    if original():
        found["the published Phprocksyd (no application loaded)"] = ("original.py", original())
    else:
        report.left_out.append("the published Phprocksyd: name its Phprocksyd.php in $BENCH_ORIGINAL, and have php with pcntl")
    return found


def measure(quick: bool) -> Report:
    report = Report("launch", "Launch on an open connection, the example shop loaded")
    rounds, count = (3, 20) if quick else (9, 60)
    first, known, told = Rounds(), Rounds(), Rounds()
    with contextlib.ExitStack() as stack:
        ask: dict[str, Callable[[str, int], Samples]] = {
            "rocksyd, a spare waits": Caller(stack.enter_context(Rocksyd(SPARE))).ask,
            "rocksyd, no spare": Caller(stack.enter_context(Rocksyd(ON_DEMAND))).ask,
            "bare fork": stack.enter_context(Peer("bare.py", "shop", "small")).ask,
            "bare fork, huge pages": stack.enter_context(Peer("bare.py", "shop", "huge")).ask,
        }
        for name, words in available(report).items():
            ask[name] = stack.enter_context(Peer(*words)).ask
        time.sleep(1.0)
        for number in range(rounds):
            for name, contestant in ask.items():
                samples = contestant("launch", _count(name, count, number))
                for kind, into in (("first", first), ("known", known), ("told", told)):
                    into.add(name, samples[kind])
                time.sleep(GAP)
    _report(report, first, known, told)
    return report


def _count(name: str, count: int, number: int) -> int:
    """The slow ones need not be asked so often."""
    return 2 if "Celery, a fork" in name else 1 if name.startswith("cold") else count // 3 if "Executor" in name else count


def _report(report: Report, first: Rounds, known: Rounds, told: Rounds) -> None:
    spare, none, bare = "rocksyd, a spare waits", "rocksyd, no spare", "bare fork"
    report.add("first line, a spare waits, p50", first.value(spare), "ms", at_most=0.6)
    report.add("… p99", first.value(spare, 0.99), "ms")
    report.add("… as a share of the bare fork", first.ratio(spare, bare), "x", at_most=0.12)
    report.add("its end known to the caller, from the submission, p50", known.value(spare), "ms", at_most=1.2)
    report.add("… from the job's last line, p50", told.value(spare), "ms")
    report.add("first line, no spare, p50", first.value(none), "ms")
    report.add("… as a share of the bare fork", first.ratio(none, bare), "x", at_most=1.0)
    for name in first.samples:
        if name not in (spare, none):
            report.add(f"{name}: first line, p50", first.value(name), "ms", note=f"end known {known.value(name):.2f} ms")
