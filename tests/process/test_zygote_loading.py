"""From LOAD to READY, or to FAILED with the reason: exactly one of them, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from rocksyd import messages
from tests.process.zygotes import Zygote

JOBS = """
    import abc
    from rocksyd import job
    from helper import imported, Foreign
    @job(name="nightly", timeout="10m", max_running=1, retries=3, priority=5)
    def run_every_night(): return "night"
    @job
    async def quick(): return "quick"
    class Report:
        def run(self, params): return params
    class Abstract(abc.ABC):
        @abc.abstractmethod
        def run(self, params): ...
    class Plain: pass
    class _Private:
        def run(self, params): ...
    def undecorated(): ...
"""
HELPER = """
    from rocksyd import job
    @job
    def imported(): return "from helper"
    class Foreign:
        def run(self, params): ...
    def one(): return 1
    def two(): return 2
    def _hidden(): ...
    constant = 3
"""


def test_what_an_application_offers(tmp_path: Path) -> None:
    load = {"preload": ("helper",), "jobs": ("shop",), "allow": ("helper:*", "os.path:join", "sub.*:*")}
    with Zygote(tmp_path, {"shop": JOBS, "helper": HELPER}, **load) as zygote:
        ready = zygote.ready()
        assert (ready.app, ready.generation, ready.pid) == ("shop", 7, zygote.pid)
        night = {"timeout": 600.0, "max_running": 1, "retries": 3, "priority": 5}
        nothing: dict[str, object] = {"parameters": []}
        assert ready.jobs == {
            "nightly": {"target": "shop:run_every_night", "kind": "function", "settings": night, "signature": nothing},
            "quick": {"target": "shop:quick", "kind": "function", "settings": {}, "signature": nothing},
            "Report": {"target": "shop:Report", "kind": "class", "settings": {}},
            "imported": {"target": "helper:imported", "kind": "function", "settings": {}, "signature": nothing},
        }
        assert sorted(ready.allowed) == ["helper:Foreign", "helper:imported", "helper:one", "helper:two", "os.path:join"]
        assert ready.open_patterns == ("sub.*:*",)
        assert ready.warnings == ()
        assert ready.memory > 1 << 20
        assert ready.seconds > 0
        assert zygote.run("shop:quick")[0].value == "quick"
        assert zygote.run("os.path:join", ["a", "b"])[0].value == "a/b"


def test_a_preload_entry_may_be_a_call(tmp_path: Path) -> None:
    source = "import sys\ndef setup(): sys.was_set_up = True\n"
    jobs = "import sys\ndef check(): return [sys.was_set_up, sys.path.count(sys.path[0]), __import__('gc').isenabled()]\n"
    with Zygote(tmp_path, {"boot": source, "shop": jobs}, preload=("boot:setup",), allow=("shop:check",)) as zygote:
        zygote.ready()
        assert zygote.run("shop:check")[0].value == [True, 1, True]


BROKEN = {
    "raises": ("raise ValueError('not today')", "preload entry 'broken' cannot be loaded: ValueError: not today"),
    "syntax": ("x = 1\nif x\n", "cannot be loaded: SyntaxError: expected ':' ({path}/broken.py, line 2)"),
    "exits": ("import sys\nsys.exit(3)", "preload entry 'broken' called sys.exit(3): what is loaded must return"),
    "nested": ("import missing_thing", "ModuleNotFoundError: No module named 'missing_thing'"),
    "interrupt": ("raise KeyboardInterrupt", "cannot be loaded: KeyboardInterrupt"),
    "unprintable": (
        "class Odd(Exception):\n    def __str__(self): raise RuntimeError\nraise Odd",
        "cannot be loaded: broken.Odd: (its message cannot be shown)",
    ),
    "wrong setting": (
        "from rocksyd import job\n@job(timeout='soon')\ndef f(): ...",
        "@job on f: timeout='soon' is wrong: expected a duration",
    ),
    "before_fork": (
        "from rocksyd.jobs import before_fork\n@before_fork\ndef hook(): 1 / 0",
        "before_fork hook broken:hook failed: ZeroDivisionError: division by zero",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_preload_that_fails_says_why(tmp_path: Path, name: str) -> None:
    source, reason = BROKEN[name]
    with Zygote(tmp_path, {}, preload=("broken",)) as zygote:
        (zygote.path / "broken.py").write_text(source)
        failed = zygote.failed()
    assert (failed.app, failed.generation) == ("shop", 7)
    assert reason.format(path=zygote.path) in failed.reason
    assert "rocksyd/zygote" not in failed.traceback
    if name == "raises":
        assert failed.traceback.startswith("Traceback (most recent call last):\n")
        assert "broken.py" in failed.traceback


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "module": ({"preload": ("nowhere",)}, "preload entry 'nowhere' cannot be loaded: there is no module 'nowhere'"),
    "callable": ({"preload": ("helper:three",)}, "there is no 'three' in helper"),
    "not callable": ({"preload": ("helper:constant",)}, "'helper:constant' names a int, which cannot be called"),
    "jobs": ({"jobs": ("nowhere",)}, "jobs module 'nowhere' cannot be loaded: there is no module 'nowhere'"),
    "pattern": ({"allow": ("helper",)}, "allow: 'helper' is not understood: expected module:name"),
    "allowed": ({"allow": ("helper:three",)}, "there is no 'three' in helper"),
    "names": ({"jobs": ("helper", "other")}, "two jobs are called 'imported': helper:imported and other:imported"),
    "folder": ({"path": "/nowhere"}, "the application's folder /nowhere cannot be entered: No such file or directory"),
    "user": ({"settings": {"user": "no-such-user"}}, "user = 'no-such-user': there is no such user on this system"),
    "group": ({"settings": {"group": "no-such-group"}}, "group = 'no-such-group': there is no such group on this system"),
    "limit": ({"settings": {"rlimits": {"patience": 1}}}, "there is no limit 'patience' on this system"),
}


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_cannot_be_followed(tmp_path: Path, name: str) -> None:
    load, reason = WRONG[name]
    other = "from rocksyd import job\n@job\ndef imported(): ...\n"
    with Zygote(tmp_path, {"helper": HELPER, "other": other}, **load) as zygote:
        assert reason in zygote.failed().reason


def test_a_preload_that_ends_the_process_is_an_exit_without_a_word(tmp_path: Path) -> None:
    with Zygote(tmp_path, {"broken": "import os\nos._exit(7)"}, preload=("broken",)) as zygote:
        assert zygote.at_end()
        assert zygote.wait() == 7


UNSAFE = {
    "thread": (
        "import threading, time\nt = threading.Thread(target=time.sleep, args=(3600,), daemon=True, name='flusher')\nt.start()",
        "preload entry 'shop' left a thread running: 'flusher', by inner ({path}/inner.py:3)",
    ),
    "connection": (
        "import socket\nl = socket.create_server(('127.0.0.1', 0))\nc = socket.create_connection(l.getsockname())\nl.close()",
        "left a socket open: descriptor",
    ),
    "listener": ("import socket\nl = socket.create_server(('127.0.0.1', 0))", "listening on ('127.0.0.1', "),
    "loop": ("import asyncio\nloop = asyncio.new_event_loop()", "(a socket pair, as event loops have), by inner ("),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_what_does_not_survive_a_fork_is_refused_and_its_line_named(tmp_path: Path, name: str) -> None:
    inner, reason = UNSAFE[name]
    modules = {"shop": "import inner\ndef job(): return 1", "inner": inner}
    with Zygote(tmp_path, modules, preload=("json", "shop")) as zygote:
        failed = zygote.failed()
    assert reason.format(path=zygote.path) in failed.reason
    assert "preload entry 'shop'" in failed.reason
    assert 'or set unsafe = "warn"' in failed.reason


def test_what_does_not_survive_a_fork_is_a_warning_where_that_was_asked_for(tmp_path: Path) -> None:
    modules = {"shop": "import inner\ndef job(): return 1", "inner": UNSAFE["thread"][0]}
    with Zygote(tmp_path, modules, preload=("shop",), allow=("shop:job",), settings={"unsafe": "warn"}) as zygote:
        [warning] = zygote.ready().warnings
        assert "left a thread running: 'flusher'" in warning
        assert zygote.run("shop:job")[0].value == 1


def test_what_was_closed_in_time_is_no_problem(tmp_path: Path) -> None:
    source = """
        import atexit, socket, threading
        from rocksyd.jobs import before_fork
        left, right = socket.socketpair()
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        thread = threading.Thread(target=left.recv, args=(1,))
        thread.start()
        @before_fork
        def close():
            right.close()
            thread.join()
            left.close()
    """
    with Zygote(tmp_path, {"shop": source}, preload=("shop",)) as zygote:
        assert zygote.ready().warnings == ()


def test_threads_that_their_library_ends_at_each_fork_are_no_problem(tmp_path: Path) -> None:
    # OpenBLAS has a thread for each core from the import of numpy on, ends it at each fork and starts it again when it is used.
    source = """
        import os, numpy
        table = numpy.ones((300, 300))
        threads = len(os.listdir("/proc/self/task"))
        def job(): return [threads, float((table @ table).sum())]
    """
    load = {"preload": ("shop",), "allow": ("shop:job",), "env": {"OPENBLAS_NUM_THREADS": "2"}}
    with Zygote(tmp_path, {"shop": source}, **load) as zygote:
        assert zygote.ready().warnings == ()
        assert zygote.run("shop:job")[0].value == [2, 300.0**3]


def test_a_child_that_comes_back_from_the_preload_is_no_second_zygote(tmp_path: Path) -> None:
    source = "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\ndef job(): return pid > 0"
    with Zygote(tmp_path, {"shop": source}, preload=("shop",), allow=("shop:job",)) as zygote:
        assert zygote.ready().pid == zygote.pid
        assert zygote.run("shop:job")[0].value is True


def test_a_child_that_raises_in_the_preload_says_so_and_does_not_speak_for_the_zygote(tmp_path: Path) -> None:
    source = "import os\npid = os.fork()\nif not pid: raise ValueError('in the child')\n"
    with Zygote(tmp_path, {"shop": source}, preload=("shop",)) as zygote:
        assert zygote.ready().pid == zygote.pid
        zygote.send(messages.Retire())
        assert zygote.at_end()
    assert "ValueError: in the child" in zygote.stderr.read_text()


def test_a_child_process_left_behind_is_told(tmp_path: Path) -> None:
    source = """
        import subprocess
        p = subprocess.Popen(["cat", "-u"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        p.stdin.write(b"ready\\n")
        p.stdin.flush()
        p.stdout.readline()  # it is what it is called from now on
    """
    with Zygote(tmp_path, {"shop": source}, preload=("shop",)) as zygote:
        [warning] = zygote.ready().warnings
        assert warning.startswith("preload entry 'shop' left a child process running: ")
        pid = int(warning.split(": ")[1].split()[0])
        os.kill(pid, signal.SIGKILL)
        assert warning.endswith("(cat -u)")
        # Its end is noticed between other things, and is nobody's exit.
        zygote.send(messages.Inventory())
        assert zygote.next(messages.Workers).exits == ()


def test_a_jobs_module_without_jobs_is_a_warning(tmp_path: Path) -> None:
    with Zygote(tmp_path, {"shop": "x = 1"}, jobs=("shop",), allow=("shop:*",)) as zygote:
        assert zygote.ready().warnings == (
            "jobs names 'shop', but it has no function marked @job and no class with a run method",
            "allow names 'shop:*', but shop defines nothing of that name that can be run",
        )


SMOKE = """
    import os, sys
    def fine(): print("looks well")
    def leaves_well(): sys.exit(0)
    def raises(): raise ValueError("no database")
    def leaves(): sys.exit(4)
    def dies(): os.kill(os.getpid(), 9)
    async def later(): return None
"""


@pytest.mark.parametrize("check", ["fine", "leaves_well", "later"])
def test_a_smoke_check_that_passes(tmp_path: Path, check: str) -> None:
    with Zygote(tmp_path, {"shop": SMOKE}, settings={"smoke": f"shop:{check}"}) as zygote:
        zygote.ready()


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        ("raises", "the smoke check 'shop:raises' failed: ValueError: no database"),
        ("leaves", "the smoke check 'shop:leaves' failed: it exited with status 4"),
        ("dies", "the smoke check 'shop:dies' failed: it was killed by SIGKILL"),
        ("missing", "the smoke check 'shop:missing' failed: JobError: target 'shop:missing': there is no 'missing' in shop"),
    ],
)
def test_a_smoke_check_that_does_not_pass(tmp_path: Path, check: str, reason: str) -> None:
    with Zygote(tmp_path, {"shop": SMOKE}, settings={"smoke": f"shop:{check}"}) as zygote:
        failed = zygote.failed()
    assert failed.reason.startswith(reason)
    assert ("no database" in failed.traceback) == (check == "raises")


def test_an_interpreter_with_nothing_installed(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    # It must be seen that the package really is not installed there.
    assert subprocess.run([python, "-c", "import rocksyd"], capture_output=True, check=False).returncode == 1
    source = "import sys\nfrom rocksyd import job, current\n@job\ndef where(): return [sys.prefix, current().key]\n"
    with Zygote(tmp_path, {"shop": source}, python=python, jobs=("shop",)) as zygote:
        zygote.ready()
        assert zygote.run("shop:where", key="k")[0].value == [str(tmp_path / "venv"), "k"]


def test_processes_that_multiprocessing_starts_afresh_find_rocksyd(tmp_path: Path) -> None:
    source = """
        import multiprocessing
        from rocksyd import job
        def square(x): return x * x
        @job
        def squares(method, values):
            with multiprocessing.get_context(method).Pool(2) as pool:
                return pool.map(square, values)
    """
    with Zygote(tmp_path, {"shop": source}, jobs=("shop",)) as zygote:
        zygote.ready()
        assert zygote.run("shop:squares", ["spawn", [1, 2, 3]])[0].value == [1, 4, 9]
        assert zygote.run("shop:squares", ["fork", [1, 2, 3]])[0].value == [1, 4, 9]


def test_a_heap_in_huge_pages_is_never_an_error(tmp_path: Path) -> None:
    source = "data = [str(i) * 4 for i in range(400_000)]\ndef job(): return len(data)\n"
    with Zygote(tmp_path, {"shop": source}, allow=("shop:job",), settings={"huge_pages": True}) as zygote:
        ready = zygote.ready()
        assert 0 <= ready.huge <= ready.memory
        assert zygote.run("shop:job")[0].value == 400_000


def _may_be_run_by_anybody(python: str) -> bool:
    check = "import os, sys; os.setuid(65534); assert sys.version_info >= (3, 11) and os.access(os.__file__, os.R_OK)"
    return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_an_application_as_another_user(tmp_path: Path) -> None:
    source = """
        import os, pathlib, resource
        loaded_as = os.getuid()
        def who():
            return [loaded_as, os.getresuid(), os.getresgid(), os.getgroups(), os.environ["USER"],
                    pathlib.Path("/proc/self/cmdline").read_bytes().rstrip(b"\\0").decode(),
                    resource.getrlimit(resource.RLIMIT_CORE)]
    """
    import pwd

    nobody = pwd.getpwnam("nobody")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 1:
            folder.chmod(folder.stat().st_mode | 0o011)
    settings = {"user": "nobody", "rlimits": {"core": 0}}
    readable = [python for python in (sys.executable, "/usr/bin/python3") if _may_be_run_by_anybody(python)]
    if not readable:
        with Zygote(tmp_path, {"shop": source}, allow=("shop:who",), settings=settings) as zygote:
            assert "give the application an interpreter that everybody may read" in zygote.failed().reason
        return
    with Zygote(tmp_path, {"shop": source}, allow=("shop:who",), settings=settings, python=readable[0]) as zygote:
        zygote.ready()
        worker = zygote.fork()
        worker.log.touch()
        os.chown(worker.log, nobody.pw_uid, nobody.pw_gid)
        uid, gid = nobody.pw_uid, nobody.pw_gid
        value = worker.run("shop:who").value
        assert value[:5] == [uid, [uid] * 3, [gid] * 3, [gid], "nobody"]
        assert value[5].startswith("rocksyd: worker shop")
        assert value[6] == [0, 0]
        assert zygote.exited(worker).status == 0


def test_a_zygote_that_was_not_started_by_the_keeper_says_so() -> None:
    from tests.process.zygotes import BOOT

    for arguments, reason in ((["zygote", "x"], "takes no arguments"), (["zygote"], "started by the keeper")):
        ran = subprocess.run([sys.executable, BOOT, *arguments], capture_output=True, text=True, check=False)
        assert ran.returncode == 2
        assert reason in ran.stderr
