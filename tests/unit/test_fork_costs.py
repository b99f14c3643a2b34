"""What makes a fork cheap: memory in one place, and nothing in the child to do that the zygote can do once."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator

import pytest

from rocksyd import messages
from rocksyd.config import PoolConfig
from rocksyd.core.crew import REFILL_DELAY
from rocksyd.core.pools import Pool
from rocksyd.core.worker import Worker
from rocksyd.posix.channel import Channel, pair
from rocksyd.worker import inherited
from rocksyd.worker.integrations import numpy as of_numpy


def in_child(work: Callable[[], bytes]) -> bytes:
    """What ``work`` returns in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, work())
        finally:
            os._exit(0)
    os.close(write)
    said = os.read(read, 65536)
    os.close(read)
    os.waitpid(pid, 0)
    return said


# --- memory in one place ----------------------------------------------------------------------------------------------------
GATHERED = """
import os, sys
from rocksyd.posix import libc

def heap():
    with open("/proc/self/maps") as file:
        bounds = [line.split()[0].split("-") for line in file if line.rstrip().endswith("[heap]")]
    return [(int(low, 16), int(high, 16)) for low, high in bounds]

early = [[number] for number in range(200_000)]  # arenas of Python's own, full of what is about to go
if not libc.arenas_on_heap(4 << 20):
    print("not here")
else:
    del early
    things = [bytes(400) for _ in range(50_000)]
    bounds = heap()
    on_heap = sum(any(low <= id(thing) < high for low, high in bounds) for thing in things)
    print(on_heap / len(things))
    del things
    more = [[number] for number in range(300_000)]
    print(sum(map(len, more)))
sys.stdout.flush()
os._exit(0)
"""


def test_what_is_allocated_after_gathering_is_on_the_heap_and_can_be_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", GATHERED], capture_output=True, text=True, timeout=60, check=True)
    if done.stdout == "not here\n":
        pytest.skip("this interpreter or C library has no arenas to be gathered")
    share, count = done.stdout.split()
    assert float(share) > 0.5
    assert int(count) == 300_000


# --- finalizers and random numbers ------------------------------------------------------------------------------------------
@pytest.fixture
def prepared() -> Iterator[None]:
    """A zygote that has prepared what its children inherit."""
    inherited.prepare()
    yield
    inherited.take_back()


@pytest.mark.usefixtures("prepared")
def test_a_worker_does_not_finalize_what_the_zygote_has_made_unless_it_is_told_to() -> None:
    inherited.take_back()
    folder = tempfile.TemporaryDirectory()
    inherited.prepare()
    try:

        def worker() -> bytes:
            left = weakref.finalize(folder, print)  # one of the worker's own
            ends = [item.atexit for item in weakref.finalize._registry]  # type: ignore[attr-defined]
            return struct.pack("??", ends == [True], left.alive)

        assert in_child(worker) == struct.pack("??", True, True)
        assert os.path.isdir(folder.name)
        in_child(lambda: bytes(folder.cleanup() or b""))
        assert not os.path.isdir(folder.name)
    finally:
        folder.cleanup()


@pytest.mark.usefixtures("prepared")
def test_finalizers_of_the_zygote_are_found_called_and_dropped_as_ever() -> None:
    inherited.take_back()
    called: list[str] = []

    class Thing:
        pass

    thing, other = Thing(), Thing()
    mine, dropped = weakref.finalize(thing, called.append, "thing"), weakref.finalize(other, called.append, "other")
    inherited.prepare()
    assert mine.alive
    assert mine.peek() is not None
    dropped.detach()
    assert not dropped.alive
    del thing, other
    assert called == ["thing"]
    assert not mine.alive


def test_each_fork_has_random_numbers_of_its_own_from_numpy_too() -> None:
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("numpy.random")  # loaded when it is first asked for
    of_numpy.before_fork()
    assert of_numpy._state is not None
    numpy.random.normal()  # leaves a second one behind for the next call

    def numbers() -> bytes:
        of_numpy.after_fork()
        found: bytes = numpy.random.random(4).tobytes()
        return found

    assert len({in_child(numbers) for _ in range(8)}) == 8
    numpy.random.seed(5)
    expected = numpy.random.random(3).tolist()
    numpy.random.seed(5)
    assert numpy.random.random(3).tolist() == expected


# --- forking behind the jobs --------------------------------------------------------------------------------------------------
def pool_with_spares(spares: int, policy: PoolConfig) -> Pool:
    pool = Pool("p", policy)
    for number in range(spares):
        pool.add(Worker(number, "p", "p", 1, number, "idle"))
    return pool


def test_a_spare_is_replaced_behind_the_job_that_took_it_while_there_are_more() -> None:
    pool = pool_with_spares(2, PoolConfig("dynamic", max_workers=8, min_spare=2, max_spare=4))
    taken = pool.next_worker()
    assert taken is not None
    pool.move(taken, "job", 10.0)
    pool.gave_job(10.0)
    assert pool.missing(pool.demand(0), 10.0) == 0
    assert pool.look_again(pool.demand(0), 10.0) == 10.0 + REFILL_DELAY
    assert pool.missing(pool.demand(1), 10.0) == 1, "a run waits: no time to lose"
    assert pool.missing(pool.demand(0), 10.0 + REFILL_DELAY) == 1
    pool.served_one()
    assert pool.missing(pool.demand(0), 10.0) == 1


def test_the_last_spare_is_replaced_at_once() -> None:
    pool = pool_with_spares(1, PoolConfig("dynamic", max_workers=8, min_spare=1, max_spare=1))
    taken = pool.next_worker()
    assert taken is not None
    pool.move(taken, "job", 10.0)
    pool.gave_job(10.0)
    assert pool.missing(pool.demand(0), 10.0) == 1


@pytest.mark.parametrize(("max_jobs", "expected"), [(1, 0), (5, 2)])
def test_the_oldest_of_fresh_processes_goes_first_and_the_warmest_of_kept_ones(max_jobs: int, expected: int) -> None:
    pool = pool_with_spares(3, PoolConfig("dynamic", max_workers=8, min_spare=3, max_spare=3, max_jobs=max_jobs))
    worker = pool.next_worker()
    assert worker is not None
    assert worker.number == expected


# --- channels ---------------------------------------------------------------------------------------------------------------
def test_a_channel_says_whether_there_is_something_to_read_and_leaves_it_there() -> None:
    ours, theirs = (Channel(end) for end in pair())
    try:
        assert not ours.readable
        theirs.send(messages.JobAck("a"))
        assert ours.readable
        assert ours.receive() == messages.JobAck("a")
        assert not ours.readable
        theirs.close()
        assert ours.readable, "the end is something to read, too"
    finally:
        ours.close()
        theirs.close()
