"""A Celery application that loads the shop before it forks; the broker's port is in ``BENCH_REDIS``."""

import os

import bench_loaded  # noqa: F401
import bench_work
from celery import Celery

_url = f"redis://127.0.0.1:{os.environ['BENCH_REDIS']}/0"
app = Celery("bench", broker=_url, backend=_url)
app.conf.worker_prefetch_multiplier = 4
first_line = app.task(bench_work.first_line)
nothing = app.task(bench_work.nothing)
