"""This version of rocksyd beside another version of itself, in turns: what a change of the house costs.

``BENCH_VERSION`` names the other one, as git knows it; by default it is the one before runs got their present shape.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.calls import CALL, POOL
from bench.check import REQUEST
from bench.figures import Report, Rounds, p50, percentile
from bench.launch import Caller
from bench.peers.serve import waits
from bench.programs import Load, Rocksyd, compiler
from bench.rate import Burst
from bench.restart import CONNECTIONS, _restart, _waits
from rocksyd.testing.daemon import PACKAGE
from tests.versions import BEFORE, unpacked

NEW, OLD = "new", "old"
LEAST = 0.97
"""As quick as this, at least, to the other version."""
LINE = REQUEST.replace("\\n", "\n").encode()
BLOCK, BLOCKS = 64, 100
PAUSE = 0.05


class Version:
    """One version at work: a daemon whose workers are used again, one with a process for each job, and its command."""

    def __init__(self, package: Path, stack: contextlib.ExitStack) -> None:
        self.package = package
        self.calls = stack.enter_context(Rocksyd(POOL, package=package))
        self.jobs = stack.enter_context(Rocksyd(package=package))
        self.keys = itertools.count(2)
        for daemon in (self.calls, self.jobs):
            with daemon.talk() as talk:
                talk.ask('run {"hash":1,"class":"nothing"}')
                talk.rpc("wait", key="1")
        self.talk = self.calls.talk()
        self.launcher = Caller(self.jobs)
        self.few, self.many = Burst(self.calls, 8), Burst(self.calls, 128)
        self.environment = {**os.environ, "ROCKSYD_ADDRESS": self.jobs.address, "PYTHONPATH": str(package.parent)}

    # --- each returns samples in milliseconds -------------------------------------------------------------------------
    def check(self) -> list[float]:
        return waits(lambda: self.calls.call(self.talk.socket, LINE), 1000)

    def check_pipelined(self) -> list[float]:
        return [sample / BLOCK for sample in waits(self._block, BLOCKS)]

    def _block(self) -> None:
        self.talk.socket.sendall(LINE * BLOCK)
        left = BLOCK
        while left:
            data = self.talk.socket.recv(1 << 20)
            if not data:
                raise ConnectionError(f"the daemon closed the connection:\n{self.calls.log()}")
            left -= data.count(b"\n")

    def call(self) -> list[float]:
        return waits(lambda: self.calls.call(self.talk.socket, CALL), 400)

    def call_8(self) -> list[float]:
        return [self.few.ask("rate", 2000) / 2]

    def call_128(self) -> list[float]:
        return [self.many.ask("rate", 2000) / 2]

    def run(self) -> list[float]:
        line = '{"jsonrpc":"2.0","id":1,"method":"run","params":{"target":"nothing","key":"%d"}}\n'
        first = next(self.keys)
        samples = waits(lambda: self.calls.call(self.talk.socket, (line % next(self.keys)).encode()), 60)
        self.talk.rpc("wait", key=str(first + 60))
        return samples

    def launch(self) -> dict[str, list[float]]:
        return self.launcher.ask("launch", 15)

    def restart(self) -> list[float]:
        with Load(self.jobs.tcp_address, REQUEST, connections=CONNECTIONS) as load:
            longest, failed = _waits(lambda: _restart(self.jobs), load, 1)
        if failed:
            raise RuntimeError(f"{failed} requests failed in a restart of {self.package}")
        return longest

    def command(self) -> list[float]:
        words = [sys.executable, "-m", "rocksyd.cli", "check", "1"]
        return waits(lambda: subprocess.run(words, env=self.environment, stdout=subprocess.DEVNULL, check=True), 4)


SINGLE: dict[str, Callable[[Version], list[float]]] = {
    "check, one after another": Version.check,
    "check, 64 in flight": Version.check_pipelined,
    "call, one after another": Version.call,
    "call, 8 under way": Version.call_8,
    "call, 128 under way": Version.call_128,
    "run, durable before the answer": Version.run,
    "the command `rocksyd check 1`": Version.command,
}
FIRST, KNOWN, RESTART = "launch: first line, a spare waits", "launch: its end known", "restart: longest wait, 50 busy connections"


def measure(quick: bool) -> Report:
    commit = os.environ.get("BENCH_VERSION", BEFORE)
    report = Report("versions", f"This version to {commit[:12]}: how many times as quick, the median over rounds in turns")
    least, most, seconds = (10, 12, 100.0) if quick else (10, 40, 320.0)
    found: dict[str, Rounds] = {name: Rounds() for name in (*SINGLE, FIRST, KNOWN, RESTART)}
    if not compiler():
        report.left_out.append(f"{RESTART}: there is no C compiler for the client that makes load")
        del found[RESTART]
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="rocksyd-bench-") as folder, contextlib.ExitStack() as stack:
        other = unpacked(Path(folder), commit)
        versions = {NEW: Version(PACKAGE, stack), OLD: Version(other, stack)}
        for number in range(-1, most):  # the first round is not counted: everything is warm after it
            if number >= least and time.monotonic() > end:
                break
            # Each leads in every other round, so that it is not always the same one that comes after a restart of the other.
            for name, version in list(versions.items())[:: 1 if number % 2 else -1]:
                for what, samples in _round(version, restart=RESTART in found).items():
                    if number >= 0:
                        found[what].add(name, samples)
                time.sleep(PAUSE)
    for what, rounds in found.items():
        _report(report, what, rounds)
    return report


def _round(version: Version, *, restart: bool) -> dict[str, list[float]]:
    samples = {what: take(version) for what, take in SINGLE.items()}
    launched = version.launch()
    samples[FIRST], samples[KNOWN] = launched["first"], launched["known"]
    if restart:
        samples[RESTART] = version.restart()
    return samples


def _report(report: Report, what: str, rounds: Rounds) -> None:
    pairs = zip(rounds.samples[OLD], rounds.samples[NEW], strict=True)
    ratios = [p50(old) / p50(new) for old, new in pairs]
    low, high = percentile(ratios, 0.25), percentile(ratios, 0.75)
    times = f"{rounds.value(NEW):.3g} ms, the other {rounds.value(OLD):.3g} ms"
    note = f"half of {len(ratios)} rounds within {low:.2f} to {high:.2f}; {times}"
    report.add(what, p50(ratios), "x", at_least=LEAST, note=note)
