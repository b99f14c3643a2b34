"""What rocksyd replaces: a new interpreter that imports the application, for every job."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from serve import APPLICATION, launches, serve, timed

SCRIPT = "import bench_loaded, bench_work; print(*bench_work.first_line())"


def launch() -> tuple[float, float, float, float]:
    asked = time.monotonic_ns()
    environment = {**os.environ, "PYTHONPATH": APPLICATION}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, check=True)
    heard = time.monotonic_ns()
    began, ended = done.stdout.split()
    return asked, int(began), int(ended), heard


def loop(count: int) -> None:
    for _ in range(count):
        launch()


if __name__ == "__main__":
    serve({"launch": lambda count: launches(launch, count), "rate": lambda count: timed(lambda: loop(count))})
