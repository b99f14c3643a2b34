"""P12: one who follows the news and does not read: what is kept for it has a bound, and when it reads it hears of everything."""

from __future__ import annotations

import json
from pathlib import Path

from rocksyd.testing import Daemon
from tests.faults.bystander import Bystander

JOBS = """
from rocksyd import job

@job
def echo(*args):
    return list(args)

@job
def takes(text):
    return len(text)
"""
SIZE, COUNT = 200_000, 150
"""Of what each run is ordered with, which its start and its end tell: 60 MB together."""


def own_memory(pid: int) -> int:
    """Bytes."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


def test_p12_news_for_one_who_does_not_read_have_a_bound_and_are_told_when_it_reads(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS, parts={"top": 'write_timeout = "10m"'}) as daemon, Bystander(daemon) as bystander:
        deaf, talk = daemon.talk(), daemon.talk()
        assert deaf.rpc("subscribe", target="takes")["subscribed"]
        before = own_memory(daemon.master_pid)
        for number in range(COUNT):
            talk.rpc("run", target="takes", key=f"r{number}", params=["x" * SIZE])
            assert talk.rpc("wait", key=f"r{number}")["outcome"] == "ok"
        grown = own_memory(daemon.master_pid) - before
        heard: dict[str, set[str]] = {"run.started": set(), "run.ended": set()}
        while len(heard["run.ended"]) < COUNT:
            news = json.loads(deaf.line())
            heard[news["method"]].add(news["params"]["key"])
        assert grown < 40 << 20
        assert heard["run.started"] == heard["run.ended"] == {f"r{number}" for number in range(COUNT)}
        bystander.was_served()
