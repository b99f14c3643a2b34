"""Jobs a second, a process for every job: submitted, run, its end known."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable

from bench.figures import Report, Rounds
from bench.launch import available
from bench.programs import SPARE, Peer, Rocksyd

OUTSTANDING = 64
JOBS_OF = {"cold": 2, "Executor": 20, "Celery, a fork": 8, "forkserver": 100}


class Burst:
    """Runs jobs of a daemon, a number of them under way at any time, over one connection."""

    def __init__(self, daemon: Rocksyd, outstanding: int = OUTSTANDING) -> None:
        self.talk = daemon.talk().socket
        self.outstanding = outstanding

    def ask(self, command: str, count: int) -> float:
        """Seconds for ``count`` jobs."""
        began = time.perf_counter()
        self._send(0, min(self.outstanding, count))
        sent, done, rest = min(self.outstanding, count), 0, b""
        while done < count:
            data = self.talk.recv(1 << 20)
            if not data:
                raise ConnectionError("the daemon closed the connection")
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if b'"error"' in line and "error" in json.loads(line):
                    raise RuntimeError(line.decode())
            done += len(lines)
            more = min(count, done + self.outstanding) - sent
            self._send(sent, more)
            sent += more
        return time.perf_counter() - began

    def _send(self, first: int, count: int) -> None:
        call = '{"jsonrpc":"2.0","id":%d,"method":"call","params":{"target":"nothing"}}\n'
        if count:
            self.talk.sendall("".join(call % number for number in range(first, first + count)).encode())


def measure(quick: bool) -> Report:
    report = Report("rate", "Jobs a second, a process for every job, the example shop loaded")
    rounds, count = (3, 150) if quick else (7, 400)
    seconds = Rounds()
    with contextlib.ExitStack() as stack:
        ask: dict[str, Callable[[str, int], float]] = {
            "rocksyd": Burst(stack.enter_context(Rocksyd(SPARE))).ask,
            "rocksyd, journal.sync = normal": Burst(stack.enter_context(Rocksyd(SPARE, top='journal.sync = "normal"'))).ask,
            "bare fork, _exit, waitpid": stack.enter_context(Peer("bare.py", "shop", "small")).ask,
            "bare fork, huge pages": stack.enter_context(Peer("bare.py", "shop", "huge")).ask,
        }
        for name, words in available(report).items():
            ask[name] = stack.enter_context(Peer(*words)).ask
        for contestant in ask.values():
            contestant("rate", 2)
        for _ in range(rounds):
            for name, contestant in ask.items():
                jobs = next((few for part, few in JOBS_OF.items() if part in name), count)
                seconds.add(name, [contestant("rate", jobs) / jobs])
                time.sleep(0.2)
    _report(report, seconds)
    return report


def _report(report: Report, seconds: Rounds) -> None:
    bare = "bare fork, _exit, waitpid"
    for name in seconds.samples:
        figure = report.add(f"{name}: jobs a second", 1 / seconds.value(name), "/s")
        if name not in ("rocksyd", bare):
            figure.note = f"rocksyd does {1 / seconds.ratio('rocksyd', name):.2f} x"
    report.add("rocksyd to the bare loop", 1 / seconds.ratio("rocksyd", bare), "x", at_least=1.5)
    if "RQ" in seconds:
        report.add("rocksyd to RQ", 1 / seconds.ratio("rocksyd", "RQ"), "x", at_least=4.0)
