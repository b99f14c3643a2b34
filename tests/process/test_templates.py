"""A worker that becomes a template: what its own workers find, and what must not happen to anybody else."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rocksyd import messages
from rocksyd.posix.channel import Channel, pair
from tests.process.zygotes import Mailbox, WorkerEnd, Zygote, fifo, heard, wait_for_end

SOURCE = """
    import os, signal, socket, subprocess, tempfile, threading, time, weakref
    from pathlib import Path
    from rocksyd import job
    from rocksyd.jobs import after_fork, before_fork

    warm, events, kept = [], [], []
    made_at_load = tempfile.TemporaryDirectory()

    @before_fork
    def before(): events.append(["before", os.getpid()])
    @after_fork
    def after(): events.append(["after", os.getpid()])

    @job
    def warms(what):
        warm.append(what)
        kept.append(bytearray(os.urandom(1 << 20)) * 8)
        return os.getpid()
    def opened():
        "How many descriptors, without the one that libffi keeps on itself, and that it is looked with."
        paths = ["/proc/self/fd/" + name for name in os.listdir("/proc/self/fd")]
        return sum(os.path.exists(path) and "/libffi.so" not in os.readlink(path) for path in paths)
    @job
    def look():
        return {"warm": warm, "events": events, "pid": os.getpid(), "parent": os.getppid(), "group": os.getpgid(0),
                "nice": os.nice(0),
                "oom": int(Path("/proc/self/oom_score_adj").read_text()), "env": os.environ.get("OF_POOL"),
                "open": opened(),
                "title": Path("/proc/self/cmdline").read_bytes().rstrip(b"\\0").decode(),
                "folders": [Path(folder.name).is_dir() for folder in (made_at_load, *kept_folders)]}
    kept_folders = []
    @job
    def makes_folder():
        kept_folders.append(tempfile.TemporaryDirectory())
        return [made_at_load.name, kept_folders[0].name]
    @job
    def leaves(what):
        if what == "thread":
            threading.Thread(target=time.sleep, args=(3600,), daemon=True, name="left behind").start()
        elif what == "socket":
            kept.append(socket.create_server(("127.0.0.1", 0)))
        elif what == "child":
            kept.append(subprocess.Popen(["sleep", "3600"]))
            return kept[-1].pid
        elif what == "hook":
            before_fork(lambda: 1 / 0)
    @job
    def runs(fifo):
        Path(fifo).write_text("running")
        time.sleep(3600)
    @job
    def ignores_term(fifo):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path(fifo).write_text("running")
        time.sleep(3600)
"""


class Template(Mailbox):
    """The master's side of a template."""

    def __init__(self, zygote: Zygote, worker: WorkerEnd, before: int = 0) -> None:
        mine, theirs = pair()
        super().__init__(Channel(mine))
        self.zygote, self.pid = zygote, worker.pid
        zygote.send(messages.Promote(worker.number, worker.pid, before, (theirs.fileno(),)))
        theirs.close()
        worker.close()

    def fork(self, number: int) -> WorkerEnd:
        self.send(messages.Fork(worker=number, pool="main"))
        return self.zygote.adopt(self.next(messages.Forked))

    def exited(self, worker: WorkerEnd) -> messages.Exited:
        exited = self.next(messages.Exited)
        assert (exited.pid, exited.worker) == (worker.pid, worker.number)
        self.send(messages.ExitAck((exited.pid,)))
        return exited


@contextmanager
def template(zygote: Zygote, worker: WorkerEnd, before: int = 0) -> Iterator[Template]:
    made = Template(zygote, worker, before)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def grace() -> float:
    return 30.0


@pytest.fixture
def zygote(tmp_path: Path, grace: float) -> Iterator[Zygote]:
    with Zygote(tmp_path, {"shop": SOURCE}, jobs=("shop",), settings={"grace": grace}) as zygote:
        zygote.ready()
        yield zygote


def test_workers_of_a_template_have_what_its_jobs_warmed_up(zygote: Zygote) -> None:
    worker = zygote.fork()
    worker.run("shop:warms", ["cache"], last=False)
    with template(zygote, worker, before=4711) as made:
        ready = made.next(messages.Ready)
        assert (ready.template, ready.pid, ready.before, ready.pool) == (worker.number, worker.pid, 4711, "main")
        assert ready.private > 8 << 20
        child = made.fork(100)
        seen = child.run("shop:look").value
        assert seen["warm"] == ["cache"]
        assert (seen["pid"], seen["parent"], seen["group"]) == (child.pid, worker.pid, child.pid)
        assert seen["open"] == 4
        assert seen["title"] == "rocksyd: worker shop shop:look"
        assert seen["events"] == [
            ["before", zygote.pid],
            ["after", worker.pid],
            ["before", worker.pid],
            ["after", child.pid],
        ]
        assert made.exited(child).status == 0
        plain = zygote.fork()
        assert plain.run("shop:look").value["warm"] == []
        zygote.exited(plain)
        made.send(messages.Retire())
        assert made.at_end()
    exited = zygote.next(messages.Exited)
    assert (exited.worker, exited.status) == (worker.number, 0)
    zygote.send(messages.ExitAck((exited.pid,)))


def test_what_is_measured_is_what_each_worker_has_for_itself(zygote: Zygote) -> None:
    workers = [zygote.fork() for _ in range(3)]
    for worker in workers[:2]:
        worker.run("shop:warms", ["cache"], last=False)
    workers[2].run("shop:look", last=False)
    zygote.send(messages.Measure("main"))
    measured = zygote.next(messages.Measured)
    sizes = dict(measured.workers)
    assert measured.pool == "main"
    assert sorted(sizes) == [worker.number for worker in workers]
    assert all(sizes[worker.number] - sizes[workers[2].number] > 7 << 20 for worker in workers[:2]), sizes
    with template(zygote, workers[0]) as made:
        assert made.next(messages.Ready).private > 8 << 20
        child = made.fork(100)
        child.run("shop:look", last=False)
        made.send(messages.Measure("main"))
        ((number, private),) = made.next(messages.Measured).workers
        assert number == 100
        assert private < 7 << 20
        zygote.send(messages.Measure("other"))
        assert zygote.next(messages.Measured) == messages.Measured("other")
        zygote.send(messages.Measure("main"))
        assert set(dict(zygote.next(messages.Measured).workers)) == {worker.number for worker in workers[1:]}


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("thread", "a thread runs: 'left behind'. Workers can be forked from a worker only when"),
        ("socket", "a socket is open: descriptor 3 listening on ('127.0.0.1', "),
        ("child", "a child process runs: "),
        ("hook", "before_fork hook shop:leaves.<locals>.<lambda> failed: ZeroDivisionError: division by zero"),
    ],
)
def test_a_worker_that_cannot_be_forked_from_says_why_and_leaves(zygote: Zygote, what: str, reason: str) -> None:
    worker = zygote.fork()
    left = worker.run("shop:leaves", [what], last=False).value
    with template(zygote, worker) as made:
        assert made.next(messages.Failed).reason.startswith(reason)
        assert made.at_end()
    if left is not None:
        os.kill(left, signal.SIGKILL)
    assert zygote.exited(worker).status == 0
    assert zygote.run("shop:look")[0].ok


def test_a_worker_that_is_gone_does_not_become_one(zygote: Zygote) -> None:
    worker = zygote.fork()
    worker.run("shop:look")
    zygote.exited(worker)
    with template(zygote, worker) as made:
        assert made.at_end()


def test_a_template_is_in_no_inventory_of_workers_and_has_one_of_its_own(zygote: Zygote) -> None:
    worker, other = zygote.fork(), zygote.fork()
    worker.run("shop:look", last=False)
    with template(zygote, worker) as made:
        made.next(messages.Ready)
        child = made.fork(100)
        zygote.send(messages.Inventory())
        zygote.next(messages.Ready)
        listed = zygote.next(messages.Workers)
        assert [number for number, *_ in listed.workers] == [other.number]
        made.send(messages.Inventory())
        assert made.next(messages.Ready).template == worker.number
        own = made.next(messages.Workers)
        assert own.workers == ((100, child.pid, "main", -1),)
        for fd in (*listed.fds, *own.fds):
            os.close(fd)
        assert child.run("shop:look").ok
        assert made.next(messages.Exited).pid == child.pid  # not acknowledged
        made.send(messages.Inventory())
        assert made.next(messages.Workers).exits[0][:3] == (100, child.pid, 0)


def test_finalizers_run_in_the_process_that_made_what_they_are_for(zygote: Zygote) -> None:
    worker = zygote.fork()
    folders = worker.run("shop:makes_folder", last=False).value
    with template(zygote, worker) as made:
        made.next(messages.Ready)
        for number in (100, 101):
            child = made.fork(number)
            assert child.run("shop:look").value["folders"] == [True, True]
            made.exited(child)
        made.send(messages.Retire())
        assert made.at_end()
    zygote.exited(worker)
    assert [os.path.isdir(folder) for folder in folders] == [True, False]


@pytest.mark.parametrize("grace", [0.5])
def test_what_a_job_of_a_template_ignores_does_not_outlive_the_daemon(zygote: Zygote) -> None:
    worker = zygote.fork()
    worker.run("shop:look", last=False)
    with template(zygote, worker) as made, fifo(zygote.folder) as event:
        made.next(messages.Ready)
        child = made.fork(100)
        child.start("shop:ignores_term", [str(event)])
        assert heard(event) == "running"
        made.channel.close()
        zygote.channel.close()
        zygote.wait()
        wait_for_end(child.pid)
        wait_for_end(worker.pid)


def test_workers_of_a_killed_template_go_on(zygote: Zygote) -> None:
    worker = zygote.fork()
    worker.run("shop:look", last=False)
    with template(zygote, worker) as made:
        made.next(messages.Ready)
        child = made.fork(100)
        child.run("shop:look", last=False)
        zygote.send(messages.Kill(worker.pid, signal.SIGKILL))
        assert made.at_end()
        assert zygote.exited(worker).status == signal.SIGKILL
        assert child.run("shop:look").value["pid"] == child.pid
        wait_for_end(child.pid)


def test_what_a_pool_says_of_its_workers_is_done_once_and_holds_for_those_of_a_template(tmp_path: Path) -> None:
    pools = {"main": {"nice": 3, "oom_score_adj": 500, "env": {"OF_POOL": "yes"}}}
    with Zygote(tmp_path, {"shop": SOURCE}, jobs=("shop",), settings={"grace": 30.0, "pools": pools}) as zygote:
        zygote.ready()
        worker = zygote.fork()
        first = worker.run("shop:look", last=False).value
        with template(zygote, worker) as made:
            made.next(messages.Ready)
            child = made.fork(100)
            second = child.run("shop:look").value
            made.exited(child)
        assert (first["oom"], first["env"], first["nice"]) == (500, "yes", os.nice(0) + 3)
        assert all(second[name] == first[name] for name in ("oom", "env", "nice"))
