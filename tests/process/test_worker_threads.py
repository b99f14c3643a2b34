"""What becomes of threads that a job leaves in a worker that has more than one run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksyd import messages
from tests.process.zygotes import WorkerEnd, Zygote

SOURCE = """
    import os, threading, time
    from concurrent.futures import ThreadPoolExecutor
    from rocksyd import job
    from rocksyd.jobs import after_fork

    executor = None
    gate = threading.Event()

    @after_fork
    def has_a_thread(): threading.Thread(target=gate.wait, name="the hook's", daemon=False).start()
    def waits(path):
        while not os.path.exists(path): time.sleep(0.01)
        print("the thread's last words", flush=True)
        gate.set()
    @job
    def leaves(path, daemon=False):
        threading.Thread(target=waits, args=(path,), name="the job's", daemon=daemon).start()
        return os.getpid()
    @job
    def leaves_at_work(path):
        ThreadPoolExecutor(1, "executor").submit(waits, path)
        return os.getpid()
    @job
    def shares():
        global executor
        executor = executor or ThreadPoolExecutor(4)
        assert sorted(executor.map(abs, range(8))) == list(range(8))
        return os.getpid()
    @job
    def opens_the_gate():
        gate.set()
        return os.getpid()
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerEnd]:
    with Zygote(tmp_path, {"shop": SOURCE}, jobs=("shop",)) as zygote:
        zygote.ready()
        yield zygote.fork()


@pytest.mark.parametrize(("target", "name"), [("leaves", "'the job's'"), ("leaves_at_work", "'executor_0'")])
def test_p2_beside_a_thread_that_is_still_at_work_nothing_else_is_run(
    worker: WorkerEnd, tmp_path: Path, target: str, name: str
) -> None:
    gate = tmp_path / "gate"
    key = worker.start(f"shop:{target}", [str(gate)], last=False)
    result = worker.next(messages.Result)
    assert (result.ok, result.value, result.leaves) == (True, worker.pid, True), result.error
    (line,) = worker.output.splitlines()
    assert "its worker takes no other run" in line
    assert name.strip("'") in line
    worker.send(messages.Job(key="second", target="shop:opens_the_gate", last=False))  # an older master does
    gate.touch()
    assert worker.at_end(), "nothing is said of the second run, which another worker gets"
    assert worker.output.splitlines()[1:] == ["the thread's last words"]
    assert key == result.key


def test_threads_that_nobody_waits_for_are_kept(worker: WorkerEnd, tmp_path: Path) -> None:
    jobs = [("shares", []), ("leaves", [str(tmp_path / "gate"), True]), ("shares", []), ("opens_the_gate", [])]
    results = [worker.run(f"shop:{name}", params, key=f"{at}", last=False) for at, (name, params) in enumerate(jobs)]
    assert [(result.value, result.leaves) for result in results] == 4 * [(worker.pid, False)], [r.error for r in results]
    (tmp_path / "gate").touch()
    worker.send(messages.Drain())
    assert worker.at_end()
