"""The jobs that are measured, for rocksyd."""

import time

import bench_work

from rocksyd import job

first_line = job(bench_work.first_line)
nothing = job(bench_work.nothing)
visit = job(bench_work.visit)
who = job(bench_work.who)


@job
def backend(path):
    """Wait for a backend that takes as long as the file says."""
    with open(path) as file:
        time.sleep(float(file.read()))
