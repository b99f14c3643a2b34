"""``rocksyd.Executor`` in the place of ``ProcessPoolExecutor``."""

from __future__ import annotations

import concurrent.futures
import functools
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import rocksyd
from rocksyd import Executor
from rocksyd.client.job_errors import RemoteTraceback
from rocksyd.errors import JobFailed, NoDaemon, RequestError
from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until
from tests.files import lines
from tests.restart.stage import gate

JOBS = """
import os, time
from rocksyd import current, job

class Refused(Exception):
    def __init__(self, who, why):
        super().__init__(who, why)
        self.why = why

@job
def add(a, b=0, *, c=0):
    return a + b + c

@job
def pid(_):
    return os.getpid()

@job
def fail(how):
    if how == "os":
        open("/no/such/file")
    if how == "key":
        return {}["lamp"]
    if how == "own":
        raise Refused("shop", "closed")
    if how == "signal":
        os.kill(os.getpid(), 9)
    if how == "exit":
        raise SystemExit("enough")
    raise ValueError("no " + how)

@job
def gate(path):
    with open(path + ".ran", "a") as file:
        file.write("ran\\n")
    current().progress(1, 2)
    with open(path) as file:
        return file.read()

def not_a_job():
    return None
"""
ONE = 'pm = "dynamic"\nmax_workers = 1\nmin_spare = 1\nmax_spare = 1\ngrace = "30s"'


@contextmanager
def at_work(folder: Path, **parts: str) -> Iterator[tuple[Daemon, Any]]:
    """A daemon, and its module of jobs imported here, too."""
    with Daemon(folder / "daemon", JOBS, parts=parts) as daemon:
        spec = importlib.util.spec_from_file_location("jobs", daemon.app / "jobs.py")
        assert spec is not None
        assert spec.loader is not None
        module: ModuleType = importlib.util.module_from_spec(spec)
        before = sys.modules.get("jobs")
        sys.modules["jobs"] = module
        try:
            spec.loader.exec_module(module)
            yield daemon, module
        finally:
            del sys.modules["jobs"]
            if before is not None:
                sys.modules["jobs"] = before


def test_code_written_for_a_process_pool_runs_unchanged(tmp_path: Path) -> None:
    def work(pool: concurrent.futures.Executor, jobs: Any) -> list[Any]:
        futures = {pool.submit(jobs.add, n, b=1): n for n in range(6)}
        done = {futures[future]: future.result() for future in concurrent.futures.as_completed(futures)}
        first, rest = concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_COMPLETED)
        mapped = list(pool.map(jobs.add, range(5), range(5), timeout=30))
        chunked = list(pool.map(functools.partial(jobs.add, 10), range(11), chunksize=4))
        return [sorted(done.items()), len(first) + len(rest), mapped, chunked, pool.submit(jobs.add, 1, c=5).result()]

    with at_work(tmp_path) as (daemon, jobs):
        with Executor(address=daemon.address) as ours:
            found = work(ours, jobs)
        with concurrent.futures.ThreadPoolExecutor() as theirs:
            assert found == work(theirs, jobs)


def test_a_chunk_is_one_run_in_one_process(tmp_path: Path) -> None:
    with at_work(tmp_path) as (daemon, jobs), Executor(address=daemon.address, priority=5, labels={"a": "b"}) as pool:
        pids = list(pool.map(jobs.pid, range(6), chunksize=3))
        assert pids[0] == pids[1] == pids[2] != pids[3] == pids[4] == pids[5]
        with daemon.client() as client:
            runs = client.runs(target="jobs:pid")
            assert [run["params"] for run in runs] == [[[3], [4], [5]], [[0], [1], [2]]]
            assert {(run["priority"], run["labels"]["a"]) for run in runs} == {(5, "b")}


@pytest.mark.parametrize(
    ("how", "kind", "check"),
    [
        ("os", FileNotFoundError, lambda error: error.errno == 2 and error.filename == "/no/such/file"),
        ("key", KeyError, lambda error: error.args == ("lamp",)),
        ("value", ValueError, lambda error: str(error) == "no value"),
        ("own", Exception, lambda error: type(error).__name__ == "Refused" and error.why == "closed"),
        ("signal", JobFailed, lambda error: error.record["outcome"] == "killed"),
        ("exit", JobFailed, lambda error: error.reason == "enough"),
    ],
)
def test_what_the_job_raised_is_raised_with_its_own_traceback(
    how: str, kind: type[Exception], check: Any, tmp_path: Path
) -> None:
    with at_work(tmp_path) as (daemon, jobs), Executor(address=daemon.address) as pool:
        error = pool.submit(jobs.fail, how).exception()
        assert isinstance(error, kind)
        assert check(error)
        if how not in ("signal", "exit"):
            assert isinstance(error.__cause__, RemoteTraceback)
            assert 'jobs.py", line' in str(error.__cause__)
        with pytest.raises(kind):
            list(pool.map(jobs.fail, [how], chunksize=2))


def test_an_exception_whose_class_is_not_known_here_is_a_failure(tmp_path: Path) -> None:
    with at_work(tmp_path) as (daemon, jobs), Executor(address=daemon.address) as pool:
        fail = jobs.fail
        del jobs.Refused
        error = pool.submit(fail, "own").exception()
        assert isinstance(error, JobFailed)
        assert error.type == "jobs.Refused"
        assert "Refused: ('shop', 'closed')" in str(error.__cause__)


def test_what_waits_can_be_cancelled_and_never_runs(tmp_path: Path) -> None:
    with at_work(tmp_path, pool=ONE) as (daemon, jobs), gate(tmp_path) as held, daemon.client() as client:
        with Executor(address=daemon.address) as pool:
            first = pool.submit(jobs.gate, str(held.path))
            until(first.running, "the first to run")
            until(lambda: first.progress is not None, "its progress")
            waiting = [pool.submit(jobs.gate, str(held.path)) for _ in range(3)]
            until(lambda: client.stats()["runs_waiting"] == 3, "the others to wait")
            assert not first.cancel()
            assert all(future.cancel() for future in waiting)
            assert concurrent.futures.wait(waiting, timeout=60).not_done == set()
            with pytest.raises(concurrent.futures.CancelledError):
                waiting[0].result()
            held.open("done")
            assert first.result() == "done"
            assert {client.wait(future.key).__next__()["outcome"] for future in waiting} == {"cancelled"}
        assert lines(tmp_path / "gate.ran") == ["ran"]


def test_shutdown_waits_for_what_was_submitted_or_cancels_it(tmp_path: Path) -> None:
    with at_work(tmp_path, pool=ONE) as (daemon, jobs), gate(tmp_path) as held:
        pool = Executor(address=daemon.address)
        first = pool.submit(jobs.gate, str(held.path))
        until(first.running, "the first to run")
        second = pool.submit(jobs.add, 1)
        pool.shutdown(wait=False, cancel_futures=True)
        assert second.cancelled()
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool.submit(jobs.add, 1)
        held.open("done")
        pool.shutdown()
        assert first.done()
        assert first.result() == "done"
    Executor(address=daemon.address).shutdown()


def test_never_more_runs_are_ordered_than_there_are_workers_asked_for(tmp_path: Path) -> None:
    with at_work(tmp_path) as (daemon, jobs), gate(tmp_path) as held, daemon.client() as client:
        with Executor(2, address=daemon.address) as pool:
            futures = [pool.submit(jobs.gate, str(held.path))] + [pool.submit(jobs.add, n) for n in range(4)]
            assert [future.result() for future in futures[1:]] == [0, 1, 2, 3]
            held.open()
            assert futures[0].result() == "go"
            assert client.pools()[0]["peak_busy"] <= 2
        with pytest.raises(ValueError, match="greater than 0"):
            Executor(0, address=daemon.address)


def test_what_cannot_be_run_is_said_where_it_is_submitted_or_in_the_future(tmp_path: Path) -> None:
    with at_work(tmp_path) as (daemon, jobs), Executor(address=daemon.address) as pool:
        with pytest.raises(TypeError, match="cannot be run by name"):
            pool.submit(lambda: None)
        with pytest.raises(RequestError, match="no pattern in `allow` names it"):
            pool.submit(jobs.not_a_job).result()
        with pytest.raises(RequestError, match="parameter 'd'"):
            pool.submit(functools.partial(jobs.add, d=1), a=1).result()
        with pytest.raises(TypeError, match="no form in JSON"):
            pool.submit(jobs.add, object()).result()
        with pytest.raises(ValueError, match="chunksize"):
            pool.map(jobs.add, [1], chunksize=0)
    with Executor(address="unix:///no/such/socket") as nowhere, pytest.raises(NoDaemon):
        nowhere.submit(jobs.add, 1).result()


def test_an_executor_that_is_dropped_ends_its_thread_when_its_runs_have_ended(tmp_path: Path) -> None:
    with at_work(tmp_path) as (daemon, jobs):
        pool = Executor(address=daemon.address)
        future = pool.submit(jobs.add, 1)
        del pool
        assert future.result() == 1
        until(lambda: not [t for t in threading.enumerate() if t.name == "rocksyd.Executor"], "the thread to end")


def test_a_program_that_ends_without_shutdown_gets_its_results_first(tmp_path: Path) -> None:
    program = """
import sys, rocksyd, jobs
pool = rocksyd.Executor(address=sys.argv[1])
future = pool.submit(jobs.add, 20, 22)
future.add_done_callback(lambda future: print(future.result(), flush=True))
"""
    with at_work(tmp_path) as (daemon, _):
        path = os.pathsep.join([str(daemon.app), str(Path(next(iter(rocksyd.__path__))).parent)])
        environment = {**os.environ, "PYTHONPATH": path}
        command = [sys.executable, "-W", "error", "-c", program, daemon.address]
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")
