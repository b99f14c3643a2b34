"""``rocksyd check 1`` as a whole process, beside the least that such a program has to import."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from bench.figures import Report, Rounds
from bench.programs import Rocksyd


def measure(quick: bool) -> Report:
    report = Report("command", "`rocksyd check 1` as a whole process")
    rounds, count = (3, 5) if quick else (9, 20)
    took = Rounds()
    with Rocksyd() as daemon:
        with daemon.talk() as talk:
            talk.ask('run {"hash":1,"class":"nothing"}')
            talk.rpc("wait", key="1")
        environment = {**os.environ, "ROCKSYD_ADDRESS": daemon.address}
        commands = {
            "rocksyd check": [str(Path(sys.executable).with_name("rocksyd")), "check", "1"],
            "floor": [sys.executable, "-c", "import socket, json"],
            "bare": [sys.executable, "-c", "pass"],
        }
        for _ in range(rounds):
            for name, words in commands.items():
                took.add(name, [_milliseconds(words, environment) for _ in range(count)])
    report.add("`rocksyd check 1`, p50", took.value("rocksyd check"), "ms")
    report.add(
        '… to `python -c "import socket, json"`',
        took.ratio("rocksyd check", "floor"),
        "x",
        at_most=1.5,
        note=f"that takes {took.value('floor'):.1f} ms",
    )
    report.add("… to `python -c pass`", took.ratio("rocksyd check", "bare"), "x", note=f"that takes {took.value('bare'):.1f} ms")
    return report


def _milliseconds(words: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1000
