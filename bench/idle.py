"""What a daemon costs that has nothing to do: wake-ups, system calls, memory."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from bench import machine
from bench.figures import Report
from bench.programs import Load, Rocksyd
from bench.rate import Burst
from rocksyd.testing.daemon import command_line, descendants

ROLES = {"keeper": "rocksyd: keeper", "master": "rocksyd: master", "zygote": "rocksyd: zygote", "spare worker": "rocksyd: worker"}
MB = 1 << 20


def measure(quick: bool) -> Report:
    seconds = 3.0 if quick else 10.0
    report = Report("idle", f"A daemon with nothing to do, for {seconds:g} s, after 300 jobs; 50 connections are open")
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Rocksyd())
        Burst(daemon).ask("rate", 300)
        stack.enter_context(Load(daemon.tcp_address, "", connections=0, idle=50))
        time.sleep(5.0)  # spares beyond max_spare have left, connections are on the shelf
        by_role = _processes(daemon)
        pids = [pid for found in by_role.values() for pid in found]
        before = [machine.switches(pid) for pid in pids]
        time.sleep(seconds)
        woken = sum(machine.switches(pid) for pid in pids) - sum(before)
        report.add("wake-ups of all processes", woken, "", at_most=0)
        if shutil.which("strace"):
            report.add("system calls of all processes", _system_calls(pids, seconds), "", at_most=0)
        else:
            report.left_out.append("system calls: there is no strace")
        used = {role: [machine.memory(pid) for pid in found] for role, found in by_role.items()}
    report.add("keeper, resident", used["keeper"][0]["rss"] / MB, "MB", at_most=12)
    report.add("master, resident", used["master"][0]["rss"] / MB, "MB", at_most=40)
    report.add(
        "zygote (the shop loaded), resident",
        used["zygote"][0]["rss"] / MB,
        "MB",
        note=f"{used['zygote'][0]['huge'] // MB} MB in huge pages",
    )
    spares = [one["private"] / MB for one in used["spare worker"]]
    report.add("a spare worker, its own (USS)", max(spares), "MB", at_most=3, note=f"the largest of {len(spares)}")
    return report


def _processes(daemon: Rocksyd) -> dict[str, list[int]]:
    everybody = [daemon.pid, *descendants(daemon.pid)]
    return {role: [pid for pid in everybody if command_line(pid).startswith(title)] for role, title in ROLES.items()}


def _system_calls(pids: list[int], seconds: float) -> int:
    """How many system calls these processes make. One that is already sleeping in a call when strace comes is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace")
        words = ["strace", "-f", "-qq", "-o", str(trace), *(word for pid in pids for word in ("-p", str(pid)))]
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        time.sleep(1.0)
        already = trace.read_text().count("\n") if trace.exists() else 0
        time.sleep(seconds)
        found = trace.read_text().count("\n") if trace.exists() else 0
        process.send_signal(signal.SIGINT)
        process.wait()
    return found - already
