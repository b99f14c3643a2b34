"""P2: however and whenever a job ends - before, during or after a hand-over - its end is reported, once, and is right."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon, until
from tests.faults.crowd import EXPECTED, JOBS, ended, found, kill_master, lenient_package, traced

KINDS: dict[str, dict[str, Any]] = {
    **EXPECTED,
    "timeout": {"outcome": "timeout", "reason": "timeout", "retcode": 143, "signal": 15},
    "cancelled": {"outcome": "cancelled", "reason": "cancelled", "retcode": 143, "signal": 15},
}
EACH = 10
POOL = 'pm = "dynamic"\nmax_workers = 40\nmin_spare = 2\nmax_spare = 8\ngrace = "30s"'
SPAN = 4.0
"""Seconds over which the ends are spread. (Only for there to be some before, during and after; nothing depends on it.)"""


def restart(daemon: Daemon) -> None:
    assert daemon.restart() == {"error_text": "Restarted successfully"}


def kill(daemon: Daemon) -> None:
    kill_master(daemon)


@pytest.mark.parametrize(("happens", "times"), [(restart, 20), (kill, 5)], ids=["20_restarts", "5_kills"])
def test_p2_every_end_is_reported_once_and_right(tmp_path: Path, happens: Callable[[Daemon], None], times: int) -> None:
    dice = random.Random(times)
    kinds = {str(number): kind for number, kind in enumerate(sorted(KINDS) * EACH)}
    with Daemon(tmp_path, JOBS, parts={"pool": POOL}, package=lenient_package(tmp_path)) as daemon, daemon.client() as client:
        watcher = daemon.talk()
        watcher.rpc("subscribe", events=["run.ended"])
        for key, kind in kinds.items():
            after = dice.uniform(0.0, SPAN)
            if kind in EXPECTED:
                client.run("end", kind, False, after, key=key)
            else:
                client.run("end", "stay", key=key, timeout=after + 3.0 if kind == "timeout" else None)
        cancelled = [key for key, kind in kinds.items() if kind == "cancelled"]
        for number in range(times):
            happens(daemon)
            for key in cancelled[number * len(cancelled) // times : (number + 1) * len(cancelled) // times]:
                until(lambda key=key: traced(daemon)[key], "a run to begin that is to be cancelled")
                client.terminate(key)
            time.sleep(SPAN / times / 2)  # so that hand-overs and ends are mixed
        for key, kind in kinds.items():
            record = ended(daemon, key)
            assert found(record, KINDS[kind]) == KINDS[kind], (key, kind, record)
        until(lambda: traced(daemon).total() == len(kinds), "all traces")
        assert traced(daemon) == dict.fromkeys(kinds, 1)
        if happens is restart:
            news = [watcher.line() for _ in kinds]
            keys = sorted(line.partition(b'"key":"')[2].partition(b'"')[0].decode() for line in news)
            assert keys == sorted(kinds)
            watcher.send("check {}")
            assert watcher.line() == b'{"error_text":"Hash is not numeric"}'  # and no news beyond those


def test_the_classic_dialect_says_how_a_job_ended(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon:
        talk = daemon.talk()
        for key, (kind, expected) in enumerate(EXPECTED.items()):
            assert talk.ask(f'run {{"hash":{key},"class":"end","params":["{kind}"]}}') == {"error_text": "OK"}
            ended(daemon, str(key))
            reply = {"retcode": expected["retcode"]}
            if expected["signal"]:
                reply["signal"] = expected["signal"]
            assert talk.ask(f'check {{"hash":{key}}}') == reply
