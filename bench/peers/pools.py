"""The standard library's own ways: ``pools.py forkserver`` (with preload) and ``pools.py executor`` (max_tasks_per_child=1)."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from serve import APPLICATION, launches, serve, timed, waits

CORES = 2


def stamp(connection: Any) -> None:
    connection.send(time.monotonic_ns())


def of_forkserver() -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench_loaded", "bench_work"])

    def launch() -> tuple[float, float, float, float]:
        ours, theirs = context.Pipe(duplex=False)
        asked = time.monotonic_ns()
        process = context.Process(target=stamp, args=(theirs,))
        process.start()
        began = ours.recv()
        process.join()
        heard = time.monotonic_ns()
        return asked, began, began, heard

    def loop(count: int) -> None:
        import bench_work  # type: ignore[import-not-found]

        running: list[Any] = []
        for _ in range(count):
            if len(running) == CORES:
                running.pop(0).join()
            running.append(context.Process(target=bench_work.nothing))
            running[-1].start()
        for process in running:
            process.join()

    launch()
    serve({"launch": lambda count: launches(launch, count), "rate": lambda count: timed(lambda: loop(count))})


def of_executor() -> None:
    import bench_work

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench_loaded", "bench_work"])
    with ProcessPoolExecutor(CORES, mp_context=context, max_tasks_per_child=1) as executor:

        def launch() -> tuple[float, float, float, float]:
            asked = time.monotonic_ns()
            began, ended = executor.submit(bench_work.first_line).result()
            return asked, began, ended, time.monotonic_ns()

        def loop(count: int) -> None:
            for future in [executor.submit(bench_work.nothing) for _ in range(count)]:
                future.result()

        launch()
        serve({"launch": lambda count: launches(launch, count), "rate": lambda count: timed(lambda: loop(count))})


def of_kept() -> None:
    """An executor whose two children are used again and again."""
    import bench_work

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench_loaded", "bench_work"])
    with ProcessPoolExecutor(CORES, mp_context=context) as executor:

        def call() -> None:
            executor.submit(bench_work.nothing).result()

        def loop(count: int) -> None:
            for future in [executor.submit(bench_work.nothing) for _ in range(count)]:
                future.result()

        loop(100)
        serve({"calls": lambda count: waits(call, count), "rate": lambda count: timed(lambda: loop(count))})


if __name__ == "__main__":
    sys.path.insert(0, APPLICATION)
    os.environ["PYTHONPATH"] = APPLICATION  # the fork server's own way of passing sys.path on does not reach its preload
    {"forkserver": of_forkserver, "executor": of_executor, "kept": of_kept}[sys.argv[1]]()
