"""RQ: two workers that have loaded the same application and fork for every job, Redis in memory on loopback."""

from __future__ import annotations

import contextlib
import sys
import time

from broker import redis_server
from redis import Redis
from rq import Queue, Worker
from serve import APPLICATION, launches, running, serve, timed

CORES = 2
QUEUE = "bench"


def work(port: int) -> None:
    """Be a worker."""
    sys.path.insert(0, APPLICATION)
    import bench_loaded  # type: ignore[import-not-found]  # noqa: F401
    import bench_work  # type: ignore[import-not-found]  # noqa: F401

    connection = Redis(port=port)
    Worker([Queue(QUEUE, connection=connection)], connection=connection).work(logging_level="ERROR")


def main() -> None:
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(redis_server())
        connection = Redis(port=port)
        queue = Queue(QUEUE, connection=connection)
        for _ in range(CORES):
            stack.enter_context(running(sys.executable, __file__, str(port), stderr=None))
        while len(Worker.all(connection=connection)) < CORES:
            time.sleep(0.05)

        def launch() -> tuple[float, float, float, float]:
            asked = time.monotonic_ns()
            result = queue.enqueue("bench_work.first_line").latest_result(timeout=30)
            heard = time.monotonic_ns()
            assert result is not None
            began, ended = result.return_value
            return asked, began, ended, heard

        def loop(count: int) -> None:
            before = len(queue.finished_job_registry)
            queue.enqueue_many([Queue.prepare_data("bench_work.nothing") for _ in range(count)])
            while len(queue.finished_job_registry) - before < count:
                time.sleep(0.01)

        launch()
        serve({"launch": lambda count: launches(launch, count), "rate": lambda count: timed(lambda: loop(count))})


if __name__ == "__main__":
    work(int(sys.argv[1])) if len(sys.argv) > 1 else main()
