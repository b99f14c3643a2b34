"""Celery, prefork with two children of the loaded application: ``celery_peer.py 1`` forks for every job, ``0`` never again."""

from __future__ import annotations

import contextlib
import os
import sys
import time

from broker import redis_server
from serve import APPLICATION, launches, running, serve, timed, waits

CORES = 2


def main(jobs_per_child: int) -> None:
    with contextlib.ExitStack() as stack:
        os.environ["BENCH_REDIS"] = str(stack.enter_context(redis_server()))
        words = (
            f"-A bench_celery worker -c {CORES} -P prefork -l ERROR --without-gossip --without-mingle --without-heartbeat".split()
        )
        if jobs_per_child:
            words += ["--max-tasks-per-child", str(jobs_per_child)]
        stack.enter_context(running(sys.executable, "-W", "ignore", "-m", "celery", *words, stderr=None))
        sys.path.insert(0, APPLICATION)
        import bench_celery  # type: ignore[import-not-found]

        def launch() -> tuple[float, float, float, float]:
            asked = time.monotonic_ns()
            began, ended = bench_celery.first_line.delay().get(timeout=60)
            return asked, began, ended, time.monotonic_ns()

        def loop(count: int) -> None:
            for result in [bench_celery.nothing.delay() for _ in range(count)]:
                result.get(timeout=60)

        def call() -> None:
            bench_celery.nothing.delay().get(timeout=60)

        launch()
        time.sleep(1.0)
        serve(
            {
                "launch": lambda count: launches(launch, count),
                "rate": lambda count: timed(lambda: loop(count)),
                "calls": lambda count: waits(call, count),
            }
        )


if __name__ == "__main__":
    main(int(sys.argv[1]))
    os._exit(0)  # its client has threads that can hold up the end
