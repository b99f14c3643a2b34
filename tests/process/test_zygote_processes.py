"""A zygote as the parent of its workers: forks, kills, exits, inventories, the end."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksyd import messages
from rocksyd.posix.channel import Channel
from tests.process.zygotes import WorkerEnd, Zygote, fifo, heard, wait_for_end

SOURCE = """
    import os, signal, subprocess, sys, time
    from pathlib import Path
    from rocksyd import job, current

    @job
    def value(x): return x
    @job
    def runs(fifo):
        Path(fifo).write_text("running")
        time.sleep(3600)
    @job
    def waits(to_test, to_job):
        Path(to_test).write_text("running")
        return Path(to_job).read_text()
    @job
    def runs_with_child(fifo):
        child = subprocess.Popen(["sleep", "3600"])
        Path(fifo).write_text(str(child.pid))
        child.wait()
    @job
    def leaves_stubborn_child(fifo):
        # The leader dies of TERM; its child ignores it.
        code = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); open(sys.argv[1], 'w').write('r'); time.sleep(3600)"
        child = subprocess.Popen([sys.executable, "-c", code, fifo + ".child"])
        Path(fifo + ".child").read_text()
        Path(fifo).write_text(str(child.pid))
        time.sleep(3600)
    @job
    def ignores_term(fifo):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path(fifo).write_text("running")
        time.sleep(3600)
"""


@pytest.fixture
def grace() -> float:
    return 30.0


@pytest.fixture
def zygote(tmp_path: Path, grace: float) -> Iterator[Zygote]:
    with Zygote(tmp_path, {"shop": SOURCE}, jobs=("shop",), settings={"grace": grace}) as zygote:
        zygote.ready()
        yield zygote


def busy(zygote: Zygote, target: str = "runs") -> tuple[WorkerEnd, str]:
    """A worker whose job runs, and what it has said."""
    worker = zygote.fork()
    with fifo(zygote.folder) as event:
        worker.start(f"shop:{target}", [str(event)])
        return worker, heard(event)


def test_many_workers_at_once(zygote: Zygote) -> None:
    workers = [zygote.fork() for _ in range(25)]
    assert len({worker.pid for worker in workers}) == 25
    for worker in workers:
        worker.start("shop:value", [worker.number])
    for worker in reversed(workers):
        assert worker.next(messages.Result).value == worker.number
        worker.send(messages.JobAck(f"run-{worker.number}"))
    seen = {zygote.next(messages.Exited).worker for _ in workers}
    assert seen == {worker.number for worker in workers}


def test_two_hundred_forks_leave_no_descriptors(zygote: Zygote) -> None:
    zygote.run("shop:value", [0])
    before = zygote.descriptors()
    for number in range(200):
        worker = zygote.order_fork(1000 + number)
        worker.send(messages.Drain())
        assert zygote.exited(worker).status == 0
        worker.close()
    zygote.send(messages.Inventory())
    zygote.next(messages.Workers)
    assert zygote.descriptors() == before
    assert zygote.run("shop:value", [1])[0].value == 1


def test_kill_reaches_the_whole_group(zygote: Zygote) -> None:
    worker, child = busy(zygote, "runs_with_child")
    zygote.send(messages.Kill(worker.pid, signal.SIGTERM))
    exited = zygote.exited(worker)
    assert exited.status == signal.SIGTERM
    wait_for_end(int(child))


def test_what_ignores_term_is_killed_after_the_grace(zygote: Zygote) -> None:
    os.mkfifo(zygote.folder / "event.child")
    worker, child = busy(zygote, "leaves_stubborn_child")
    zygote.send(messages.Kill(worker.pid, signal.SIGTERM, grace=0.3))
    # The leader's exit is told at once, though its group lives on and the zombie with it.
    exited = zygote.next(messages.Exited)
    assert (exited.pid, exited.status) == (worker.pid, signal.SIGTERM)
    assert exited.max_rss > 1 << 20
    zygote.send(messages.Inventory())
    workers = zygote.next(messages.Workers)
    assert workers.workers == ()
    assert [exit_[1] for exit_ in workers.exits] == [worker.pid]
    wait_for_end(int(child))
    zygote.send(messages.ExitAck((worker.pid,)))
    zygote.send(messages.Retire())
    assert zygote.at_end()
    assert zygote.wait() == 0


def test_a_kill_of_somebody_unknown_does_nothing(zygote: Zygote) -> None:
    zygote.send(messages.Kill(os.getpid(), signal.SIGKILL))
    zygote.send(messages.Kill(1, signal.SIGKILL))
    assert zygote.run("shop:value", [1])[0].value == 1


def test_a_kill_right_after_the_fork(zygote: Zygote) -> None:
    for number in range(20):
        zygote.send(messages.Fork(worker=number))
        forked = zygote.next(messages.Forked)
        zygote.send(messages.Kill(forked.pid, signal.SIGTERM))
        worker = zygote.adopt(forked)
        assert zygote.exited(worker).status == signal.SIGTERM


def test_a_worker_that_ignores_term_is_killed_by_kill(zygote: Zygote) -> None:
    worker, _ = busy(zygote, "ignores_term")
    zygote.send(messages.Kill(worker.pid, signal.SIGTERM))
    zygote.send(messages.Kill(worker.pid, signal.SIGKILL))
    assert zygote.exited(worker).status == signal.SIGKILL


def test_exits_are_repeated_until_acknowledged(zygote: Zygote) -> None:
    workers = [zygote.fork() for _ in range(3)]
    for worker in workers:
        zygote.send(messages.Kill(worker.pid, signal.SIGKILL))
        zygote.next(messages.Exited)
    zygote.send(messages.Inventory())
    exits = zygote.next(messages.Workers).exits
    assert [(number, pid, status) for number, pid, status, _, _ in exits] == [(w.number, w.pid, 9) for w in workers]
    zygote.send(messages.ExitAck((workers[1].pid, 1)))
    zygote.send(messages.Inventory())
    assert [exit_[0] for exit_ in zygote.next(messages.Workers).exits] == [1, 3]


def test_an_inventory_brings_every_worker_back(zygote: Zygote) -> None:
    """As after a crash of the master: it has lost its ends of the channels, and the zygote has kept them."""
    idle = zygote.order_fork(1, pool="idle", slot=4)
    with fifo(zygote.folder, "to-test") as to_test, fifo(zygote.folder, "to-job") as to_job:
        working = zygote.order_fork(2)
        working.start("shop:waits", [str(to_test), str(to_job)])
        assert heard(to_test) == "running"
        finished = zygote.order_fork(3)
        finished.start("shop:value", ["kept"])
        for worker in (idle, working, finished):
            worker.close()
        zygote.send(messages.Inventory())
        found = zygote.next(messages.Workers)
        assert (found.app, found.generation, found.more, found.exits) == ("shop", 7, False, ())
        assert found.workers == ((1, idle.pid, "idle", 4), (2, working.pid, "main", -1), (3, finished.pid, "main", -1))
        again = [
            zygote.adopt(messages.Forked(number, pid, pool, slot, (fd,)))
            for (number, pid, pool, slot), fd in zip(found.workers, found.fds, strict=True)
        ]
        for worker in again:
            worker.send(messages.Inventory())
        assert again[0].next(messages.Idle).worker == 1
        assert again[2].next(messages.Result).value == "kept"
        to_job.write_text("go on")
    result = again[1].next(messages.Result)
    assert (result.key, result.value) == ("run-2", "go on")


def test_a_large_inventory_comes_in_parts(zygote: Zygote) -> None:
    workers = [zygote.fork() for _ in range(205)]
    zygote.send(messages.Inventory())
    first, second = zygote.next(messages.Workers), zygote.next(messages.Workers)
    assert (len(first.workers), first.more, len(second.workers), second.more) == (200, True, 5, False)
    assert [item[1] for item in (*first.workers, *second.workers)] == [worker.pid for worker in workers]
    for fd in (*first.fds, *second.fds):
        Channel.from_fd(fd).close()


def test_a_worker_notices_that_everybody_is_gone(zygote: Zygote) -> None:
    workers = [zygote.fork() for _ in range(3)]
    for worker in workers:
        worker.close()
    zygote.channel.close()
    for worker in workers:
        wait_for_end(worker.pid)
    assert zygote.wait() == 0


@pytest.mark.parametrize("grace", [0.5])
def test_the_end_of_the_channel_ends_jobs_after_the_grace(zygote: Zygote) -> None:
    gentle, _ = busy(zygote)
    stubborn, _ = busy(zygote, "ignores_term")
    zygote.channel.close()
    wait_for_end(gentle.pid)
    wait_for_end(stubborn.pid)
    assert zygote.wait() == 0


def test_term_ends_a_zygote_in_the_same_way(zygote: Zygote) -> None:
    worker, _ = busy(zygote)
    os.kill(zygote.pid, signal.SIGTERM)
    wait_for_end(worker.pid)
    assert zygote.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_for_the_service_mean_nothing_to_a_zygote(zygote: Zygote, number: signal.Signals) -> None:
    os.kill(zygote.pid, number)
    assert zygote.run("shop:value", [1])[0].value == 1


def test_workers_of_a_killed_zygote_finish_and_answer(zygote: Zygote) -> None:
    workers = [zygote.fork() for _ in range(3)]
    with contextlib.ExitStack() as pipes:
        to_test = pipes.enter_context(fifo(zygote.folder))
        to_jobs = [pipes.enter_context(fifo(zygote.folder, f"to-{worker.number}")) for worker in workers]
        for worker, to_job in zip(workers, to_jobs, strict=True):
            worker.start("shop:waits", [str(to_test), str(to_job)])
            assert heard(to_test) == "running"
        os.kill(zygote.pid, signal.SIGKILL)
        assert zygote.wait() == -signal.SIGKILL
        for worker, to_job in zip(workers, to_jobs, strict=True):
            to_job.write_text(f"go on, {worker.number}")
            result = worker.next(messages.Result)
            assert result.value == f"go on, {worker.number}"
            worker.send(messages.JobAck(result.key))
            wait_for_end(worker.pid)


def test_a_retired_zygote_leaves_when_its_last_exit_is_acknowledged(zygote: Zygote) -> None:
    worker, _ = busy(zygote)
    zygote.send(messages.Retire())
    zygote.send(messages.Fork(worker=99, pool="main"))
    refused = zygote.next(messages.ForkFailed)
    assert (refused.worker, refused.pool) == (99, "main")
    assert "retired" in refused.reason
    zygote.send(messages.Kill(worker.pid, signal.SIGTERM))
    exited = zygote.next(messages.Exited)
    zygote.send(messages.Inventory())
    assert len(zygote.next(messages.Workers).exits) == 1
    zygote.send(messages.ExitAck((exited.pid,)))
    assert zygote.at_end()
    assert zygote.wait() == 0


def test_a_fork_that_the_system_refuses_is_told(tmp_path: Path) -> None:
    with Zygote(
        tmp_path,
        {"shop": SOURCE + "\n    import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"},
        jobs=("shop",),
    ) as zygote:
        zygote.ready()
        workers = []
        zygote.send(messages.Fork(worker=1))
        while isinstance(answer := zygote.channel.wait(30), messages.Forked):
            workers.append(zygote.adopt(answer))
            zygote.send(messages.Fork(worker=len(workers) + 1))
        assert isinstance(answer, messages.ForkFailed)
        assert answer.worker == len(workers) + 1
        assert "Too many open files" in answer.reason
        assert workers[0].run("shop:value", ["still here"]).value == "still here"


def test_bad_messages_do_not_end_a_zygote(zygote: Zygote) -> None:
    for garbage in (b"{}", b"[]", b"\xff", b"M", b'["Fork"]', b'["Kill",{"pid":"x"}]', b'["ExitAck",{"pids":7}]', b'["Idle",{}]'):
        zygote.channel.socket.send(garbage)
    assert zygote.run("shop:value", [1])[0].value == 1
    assert "ignores a message" in zygote.stderr.read_text()


def test_a_spare_has_little_memory_of_its_own(zygote: Zygote) -> None:
    worker = zygote.fork()
    worker.send(messages.Inventory())
    worker.next(messages.Idle)
    private = sum(
        int(line.split()[1])
        for line in Path(f"/proc/{worker.pid}/smaps_rollup").read_text().splitlines()
        if line.startswith("Private")
    )
    assert private <= 3 * 1024
