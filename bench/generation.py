"""A generation of many jobs beside the same jobs ordered by hand; and, by itself, one over restarts.

python -m bench generation                                  the rate: 50,000 jobs (2,000 with --quick)
python -m bench.generation --jobs 50000 --restarts 10       each job ran once, over so many restarts and kills
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.figures import Report
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until

WORKERS, AHEAD = 4, 2
JOBS = """
import os
from rocksyd import current, job

HERE = os.path.dirname(__file__)

def note(text):
    fd = os.open(os.path.join(HERE, "ran"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, (text + "\\n").encode())
    os.close(fd)

@job
def one(number):
    return number

@job
def noted(number):
    note(current().key)
    return number

@job
def numbers():
    note(current().key)
    return current().generation.add(range(int(os.environ["JOBS"])))

@job
def summed():
    note(current().key)
    return sum(one["result"] for one in current().generation.results())
"""
SCRIPTS = """
[scripts.plain]
target = "one"
jobs = {{ range = [0, {last}] }}
[scripts.noted]
target = "noted"
jobs = {{ from = "numbers" }}
finish = "summed"
env = {{ JOBS = "{count}" }}
"""
POOL = f'pm = "static"\nmax_workers = {WORKERS}\nmax_jobs = 0'


def daemon(folder: Path, count: int) -> Daemon:
    """A daemon with the scripts for so many jobs."""
    return Daemon(folder, JOBS, parts={"top": SCRIPTS.format(last=count - 1, count=count), "pool": POOL})


def begun(served: Daemon, name: str) -> str:
    """Begin a generation; its key."""
    with served.client() as client:
        return str(client.request("schedule.run", {"name": name})["key"])


def ended(served: Daemon, key: str) -> dict[str, object]:
    """Wait until a generation has ended."""
    found: dict[str, object] = {}

    def over() -> bool:
        with served.client() as client:
            found.update(client.request("schedule.generation", {"generation": key}))
        return found["stage"] == "ended"

    until(over, f"the end of {key}", timeout=7200)
    return found


def measure(quick: bool) -> Report:
    """The rate of a generation, and by hand: as many under way, in turns."""
    report = Report("generation", "Jobs a second of a generation, and of the same jobs ordered by hand")
    count = 2000 if quick else 50_000
    by_hand, listed = [], []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rocksyd-bench-"))
        served = stack.enter_context(daemon(Path(folder), count))
        client = stack.enter_context(served.client())
        for _ in range(3):
            began = time.perf_counter()
            assert sum(1 for _ in client.map("one", range(count), ahead=AHEAD * WORKERS)) == count
            by_hand.append(time.perf_counter() - began)
            began = time.perf_counter()
            found = ended(served, begun(served, "plain"))
            listed.append(time.perf_counter() - began)
            assert (found["outcome"], found["ended"]) == ("ok", count)
    report.add("by hand (Client.map): jobs a second", count / min(by_hand), "/s")
    report.add("a generation: jobs a second", count / min(listed), "/s")
    report.add("a generation to by hand", min(by_hand) / min(listed), "x", at_least=0.9)
    return report


def over_restarts(count: int, restarts: int) -> None:
    """Each job, and each hook, ran once, whatever was restarted or killed. Raises AssertionError."""
    with tempfile.TemporaryDirectory(prefix="rocksyd-bench-") as folder, daemon(Path(folder), count) as served:
        key, path = begun(served, "noted"), served.app / "ran"

        def ran() -> int:
            return path.read_bytes().count(b"\n") if path.exists() else 0

        for turn in range(1, restarts + 1):
            until(lambda: ran() >= turn * count // (restarts + 1), f"turn {turn}", timeout=3600)  # noqa: B023
            if turn % 3 == 2:
                until(lambda: len(served.children("rocksyd: scheduler")) == 1, "the scheduler of the generation before to leave")
                os.kill(served.children("rocksyd: scheduler")[0], signal.SIGKILL)
            elif turn % 3 == 0:
                os.kill(served.master_pid, signal.SIGKILL)
            else:
                assert served.restart() == {"error_text": "Restarted successfully"}
            print(f"turn {turn} of {restarts}: {ran():,} of {count:,} have begun", flush=True)
        found = ended(served, key)
        assert (found["outcome"], found["total"], found["ended"]) == ("ok", count, count), found
        times = Counter(path.read_text().split())
        assert set(times.values()) == {1}, [key for key, number in times.items() if number > 1]
        assert times.keys() == {f"{key}.init", f"{key}.finish", *(f"{key}.{n}" for n in range(count))}
        with served.client() as client:
            assert client.get(f"{key}.finish").result() == count * (count - 1) // 2
    print(f"{count:,} jobs, {restarts} restarts and kills: each ran once, and each hook", flush=True)


def main() -> int:
    """The run over restarts."""
    parser = argparse.ArgumentParser(description=over_restarts.__doc__)
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--restarts", type=int, default=10)
    options = parser.parse_args()
    over_restarts(options.jobs, options.restarts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
