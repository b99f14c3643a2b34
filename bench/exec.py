"""``rocksyd exec`` as a whole process: a script that does nothing, and Django's ``check``, beside a fresh Python."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import Report, Rounds
from bench.programs import SHOP, Rocksyd, compiler

SOURCE = Path(__file__).parents[1] / "src" / "rocksyd" / "launcher" / "rocksyd-exec.c"
PAUSE = 0.03
"""Seconds between two commands, as a person or a script leaves them: the next worker is forked behind the answer."""


def measure(quick: bool) -> Report:
    report = Report("exec", "`rocksyd exec` as a whole process")
    rounds, count = (3, 5) if quick else (9, 15)
    took = Rounds()
    with tempfile.TemporaryDirectory() as name, Rocksyd() as daemon:
        folder = Path(name)
        nothing = folder / "true.py"
        nothing.write_text("pass\n")
        environment = {**os.environ, "ROCKSYD_ADDRESS": daemon.address, "SHOP_VAR": name}
        script = folder / "rocksyd-exec.py"  # as an installation without a compiler has it
        script.write_text("import sys\n\nfrom rocksyd.cli.exec import exec_script\n\nsys.exit(exec_script(sys.argv[1:]))\n")
        python = [sys.executable, str(script), "--"]
        commands = {
            "true": ["/bin/true"],
            "pass": [sys.executable, "-c", "pass"],
            "client": [*python, str(nothing)],
            "rocksyd exec": [str(Path(sys.executable).with_name("rocksyd")), "exec", "--", str(nothing)],
            "client check": [*python, "manage.py", "check"],
            "cold check": [sys.executable, "manage.py", "check"],
        }
        launcher = _launcher(folder)
        if launcher:
            commands["launcher"] = [launcher, "--", str(nothing)]
            commands["launcher check"] = [launcher, "--", "manage.py", "check"]
        else:
            report.left_out.append("the compiled launcher: there is no C compiler")
        for _ in range(rounds):
            for name, words in commands.items():
                took.add(name, [_milliseconds(words, environment) for _ in range(2 if name == "cold check" else count)])
    floor = f"`true` takes {took.value('true'):.1f} ms, `python -c pass` {took.value('pass'):.1f} ms"
    if launcher:
        report.add("`exec -- true.py`, compiled launcher, p50", took.value("launcher"), "ms", at_most=6, note=floor)
        report.add("… p99", took.value("launcher", 0.99), "ms")
    report.add("`exec -- true.py`, Python client, p50", took.value("client"), "ms", at_most=20, note=floor)
    report.add("… by way of the command `rocksyd`", took.value("rocksyd exec"), "ms", note="whose start imports more")
    cold = f"a fresh Python takes {took.value('cold check'):.0f} ms"
    if launcher:
        report.add("`manage.py check`, compiled launcher, p50", took.value("launcher check"), "ms")
        report.add("… as many times as fast as cold", took.ratio("cold check", "launcher check"), "x", at_least=15, note=cold)
    report.add("`manage.py check`, Python client, p50", took.value("client check"), "ms")
    report.add("… as many times as fast as cold", took.ratio("cold check", "client check"), "x", at_least=15, note=cold)
    return report


def _launcher(folder: Path) -> str:
    if not compiler():
        return ""
    program = str(folder / "rocksyd-exec")
    subprocess.run([compiler(), "-O2", "-o", program, str(SOURCE)], check=True)
    return program


def _milliseconds(words: list[str], environment: dict[str, str]) -> float:
    time.sleep(PAUSE)
    began = time.perf_counter()
    subprocess.run(words, env=environment, cwd=SHOP, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1000
