"""What a job finds around it, and what it leaves to the next job of the same worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocksyd import messages
from tests.process.zygotes import Zygote, fifo, heard

_NAMED = sum(1 << (number - 1) for number in signal.valid_signals())
SOURCE = """
    import ctypes, json, os, random, signal, subprocess, sys, threading, tempfile, time
    from pathlib import Path
    from rocksyd import job, current
    from rocksyd.jobs import after_fork, before_fork

    events = []
    temporary = tempfile.TemporaryDirectory()
    os.environ["SET_BY_PRELOAD"] = "yes"

    @before_fork
    def before(): events.append(["before", os.getpid()])
    @after_fork
    def after(): events.append(["after", os.getpid()])

    def descriptors():
        found = {}
        for name in os.listdir("/proc/self/fd"):
            try: found[name] = os.readlink("/proc/self/fd/" + name)
            except OSError: pass
        return {name: target for name, target in found.items() if "/libffi.so" not in target}

    @job
    def look():
        caught = {}
        for line in open("/proc/self/status"):
            name, _, value = line.partition(":")
            if name in ("SigBlk", "SigIgn", "SigCgt", "Threads"):
                caught[name] = value.strip()
        umask = os.umask(0)
        os.umask(umask)
        return {"fds": descriptors(), "pid": os.getpid(), "sid": os.getsid(0), "pgid": os.getpgid(0), "cwd": os.getcwd(),
                "path": sys.path[0], "env": dict(os.environ), "signals": caught, "umask": umask, "argv": sys.argv,
                "title": Path("/proc/self/cmdline").read_bytes().rstrip(b"\\0").decode(), "events": events,
                "oom": int(Path("/proc/self/oom_score_adj").read_text()), "stdin": sys.stdin.read(),
                "int": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
                "pipe": signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN}
    @job
    def child_sees():
        code = "import os; print(sorted(os.listdir('/proc/self/fd'))[:-1])"
        return subprocess.run([sys.executable, "-c", code], close_fds=False, capture_output=True, text=True, check=True).stdout
    @job
    def chance(): return [random.random(), random.randrange(1 << 60)]
    @job
    def speaks():
        print("python out")
        print("python err", file=sys.stderr)
        libc = ctypes.CDLL(None)
        libc.puts(b"c out")
        os.write(1, b"raw out\\n")
        subprocess.run(["echo", "subprocess out"], check=True)
        sys.stdout.write("no newline at the end")
    @job
    def c_without_newline():
        ctypes.CDLL(None).printf(b"still in the C library")
    @job
    def umlauts(): print("\\u00e4\\udc80")
    @job
    def spoils():
        os.environ["SPOILED"] = "1"
        del os.environ["SET_BY_PRELOAD"]
        os.chdir("/")
        os.umask(0o077)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        signal.setitimer(signal.ITIMER_REAL, 3600)
        print("spoiled")
        sys.stdout.close()
        sys.stderr = None
    @job
    def stops_properly(fifo):
        run = current()
        assert run.stopping is False
        Path(fifo).write_text("running")
        while not run.stopping:
            time.sleep(0.01)
        return "stopped properly"
    @job
    def runs(fifo):
        Path(fifo).write_text("running")
        time.sleep(3600)
    @job
    def folder_is_there(): return Path(temporary.name).is_dir()
    @job
    def counts():
        counts.calls = getattr(counts, "calls", 0) + 1
        return counts.calls
"""


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    os.mkdir(tmp_path / "elsewhere")
    settings = {"umask": 0o027, "oom_score_adj": 500}
    with Zygote(tmp_path, {"shop": SOURCE}, jobs=("shop",), env={"FROM_LOAD": "1"}, settings=settings) as zygote:
        zygote.ready()
        yield zygote


def test_a_job_sees_none_of_the_daemons_descriptors(zygote: Zygote) -> None:
    others = [zygote.fork() for _ in range(3)]
    worker = zygote.fork()
    fds = worker.run("shop:look").value["fds"]
    assert fds["0"] == "/dev/null"
    assert fds["1"] == fds["2"] == str(worker.log)
    assert len([name for name in fds.values() if not name.startswith("/proc/")]) == 4
    assert others[0].run("shop:child_sees").value == "['0', '1', '2']\n"


def test_a_job_has_its_own_process_group_and_fresh_surroundings(zygote: Zygote) -> None:
    result, _ = zygote.run("shop:look", title="daily #1", env={"FROM_JOB": "2"})
    seen = result.value
    assert seen["pid"] == seen["pgid"]
    assert seen["sid"] == os.getsid(zygote.pid)
    assert seen["cwd"] == seen["path"] == str(zygote.path)
    assert (seen["env"]["FROM_LOAD"], seen["env"]["FROM_JOB"], seen["env"]["SET_BY_PRELOAD"]) == ("1", "2", "yes")
    assert (seen["umask"], seen["oom"], seen["stdin"], seen["argv"]) == (0o027, 500, "", ["rocksyd"])
    assert seen["title"] == "rocksyd: worker shop daily #1"
    assert int(seen["signals"]["SigBlk"], 16) == 0
    assert int(seen["signals"]["SigCgt"], 16) == 1 << (signal.SIGINT - 1)
    assert int(seen["signals"]["SigIgn"], 16) & _NAMED == 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    assert seen["int"]
    assert seen["pipe"]
    assert seen["signals"]["Threads"] == "1"


def test_hooks_run_before_the_first_fork_and_after_each(zygote: Zygote) -> None:
    for _ in range(2):
        seen = zygote.run("shop:look")[0].value
        assert seen["events"] == [["before", zygote.pid], ["after", seen["pid"]]]


def test_workers_do_not_share_their_random_numbers(zygote: Zygote) -> None:
    drawn = [tuple(zygote.run("shop:chance")[0].value) for _ in range(3)]
    assert len(set(drawn)) == 3


def test_what_anybody_in_the_process_prints_goes_to_the_runs_output_in_order(zygote: Zygote) -> None:
    _, output = zygote.run("shop:speaks")
    assert output == "python out\npython err\nc out\nraw out\nsubprocess out\nno newline at the end"
    assert zygote.run("shop:c_without_newline")[1] == "still in the C library"
    assert zygote.run("shop:umlauts")[1] == "ä\\udc80\n"
    assert zygote.stderr.read_text() == ""


def test_the_output_is_appended_to(zygote: Zygote) -> None:
    for _ in range(2):
        worker = zygote.fork()
        worker.log = zygote.folder / "same.log"
        worker.run("shop:c_without_newline")
        zygote.exited(worker)
    assert worker.output == "still in the C library" * 2


def test_an_output_that_cannot_be_opened_is_the_runs_failure(zygote: Zygote) -> None:
    worker = zygote.fork()
    worker.log = zygote.stderr / "run.log"
    result = worker.run("shop:speaks")
    assert result.error is not None
    assert result.error["message"].endswith("run.log cannot be opened: Not a directory")


def test_a_folder_of_outputs_that_somebody_has_removed_is_made_again(zygote: Zygote) -> None:
    worker = zygote.fork()
    worker.log = zygote.folder / "missing" / "run.log"
    assert worker.run("shop:c_without_newline").ok
    zygote.exited(worker)
    assert worker.output == "still in the C library"


def test_a_folder_of_the_runs_own(zygote: Zygote) -> None:
    assert zygote.run("shop:look", cwd=str(zygote.folder / "elsewhere"))[0].value["cwd"] == str(zygote.folder / "elsewhere")
    result, _ = zygote.run("shop:look", cwd="/nowhere")
    assert result.error is not None
    assert result.error["message"] == "the run's folder /nowhere cannot be entered: No such file or directory"


def test_the_next_job_finds_nothing_of_the_one_before(zygote: Zygote) -> None:
    worker = zygote.fork()
    before = worker.run("shop:look", last=False).value
    worker.run("shop:spoils", last=False, env={"ONLY_HERE": "1"})
    after = worker.run("shop:look", last=False).value
    worker.run("shop:speaks")
    assert worker.output.startswith("spoiled\npython out\npython err\n")
    for name in ("env", "cwd", "umask", "signals", "fds", "title", "pid"):
        assert after[name] == before[name], name
    assert zygote.exited(worker).status == 0


def test_a_worker_keeps_what_its_modules_remember(zygote: Zygote) -> None:
    worker = zygote.fork()
    assert [worker.run("shop:counts", last=False).value for _ in range(3)] == [1, 2, 3]
    worker.send(messages.Drain())
    assert zygote.exited(worker).status == 0


def test_an_idle_worker_answers_and_leaves_when_told(zygote: Zygote) -> None:
    worker = zygote.fork()
    worker.send(messages.Inventory())
    assert worker.next(messages.Idle) == messages.Idle(worker.number, worker.pid)
    worker.send(messages.Drain())
    assert worker.at_end()
    assert zygote.exited(worker).status == 0


def test_a_drain_while_a_job_runs_is_obeyed_after_it(zygote: Zygote) -> None:
    worker = zygote.fork()
    with fifo(zygote.folder) as event:
        worker.start("shop:stops_properly", [str(event)], last=False)
        assert heard(event) == "running"
    worker.send(messages.Drain())
    zygote.send(messages.Kill(worker.pid, signal.SIGTERM))
    result = worker.next(messages.Result)
    assert result.value == "stopped properly"
    worker.send(messages.JobAck(result.key))
    assert zygote.exited(worker).status == 0


def test_term_kills_a_job_that_did_not_ask_for_stopping(zygote: Zygote) -> None:
    worker = zygote.fork()
    with fifo(zygote.folder) as event:
        worker.start("shop:runs", [str(event)])
        assert heard(event) == "running"
    zygote.send(messages.Kill(worker.pid, signal.SIGTERM))
    assert zygote.exited(worker).status == signal.SIGTERM


def test_temporary_folders_of_the_preload_outlive_workers(zygote: Zygote) -> None:
    assert zygote.run("shop:folder_is_there")[0].value
    assert zygote.run("shop:folder_is_there")[0].value


def test_garbage_on_the_channel_is_not_the_end_of_a_worker(zygote: Zygote) -> None:
    worker = zygote.fork()
    for garbage in (b"{}", b"[]", b"\xff", b'["Job"]', b'["Unknown",{}]', b"M"):
        worker.channel.socket.send(garbage)
    assert worker.run("shop:counts").value == 1
