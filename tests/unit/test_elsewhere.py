"""What an application and its developers import works where there is no Linux: on macOS, where many of them sit.

Nobody runs macOS here. A process that has lost all that only Linux has comes as near as can be: the attributes are deleted from
the modules, ``/proc`` and ``/sys`` are not there, and the C library has none of Linux's functions.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.fake_daemon import FakeDaemon, record

PRELUDE = """
import builtins, ctypes, fcntl, io, mmap, os, resource, select, selectors, signal, socket, sys
import _socket, _signal, posix, sysconfig

selectors.DefaultSelector = selectors.PollSelector  # chosen when ``socket`` was imported, before there was no epoll
sysconfig.get_config_vars()  # it imports a module that is named after the system

LINUX = {
    (os, posix): "memfd_create MFD_CLOEXEC MFD_ALLOW_SEALING pidfd_open P_PIDFD sched_getaffinity sched_setaffinity eventfd "
        "EFD_CLOEXEC EFD_NONBLOCK splice copy_file_range posix_fadvise posix_fallocate pipe2 setns unshare getrandom fdatasync "
        "O_TMPFILE O_PATH O_DIRECT setresuid setresgid getresuid getresgid SCHED_BATCH SCHED_IDLE sched_setscheduler",
    (select,): "epoll EPOLLIN EPOLLOUT EPOLLET EPOLLHUP EPOLLERR EPOLLRDHUP EPOLL_CLOEXEC EPOLLONESHOT EPOLLEXCLUSIVE EPOLLPRI",
    (socket, _socket): "SO_PEERCRED SO_PASSCRED SCM_CREDENTIALS SOCK_CLOEXEC SOCK_NONBLOCK SO_DOMAIN SO_PROTOCOL SO_MARK "
        "TCP_USER_TIMEOUT SO_INCOMING_CPU",
    (signal, _signal): "SIGPOLL SIGPWR SIGRTMIN SIGRTMAX SIGSTKFLT sigtimedwait sigwaitinfo pidfd_send_signal",
    (resource,): "prlimit RLIMIT_NICE RLIMIT_OFILE RLIMIT_RTPRIO RLIMIT_RTTIME RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RUSAGE_THREAD",
    (fcntl,): "F_ADD_SEALS F_GET_SEALS F_SEAL_GROW F_SEAL_SEAL F_SEAL_SHRINK F_SEAL_WRITE F_OFD_SETLK F_SETPIPE_SZ F_GETPIPE_SZ",
    (mmap,): "MAP_POPULATE MADV_DONTFORK MADV_HUGEPAGE MADV_NOHUGEPAGE MADV_DONTDUMP",
}
for modules, names in LINUX.items():
    for module in modules:
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)

def elsewhere(function):
    def wrapped(path, *given, **named):
        if isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(("/proc", "/sys")):
            raise FileNotFoundError(2, "No such file or directory", path)
        return function(path, *given, **named)
    return wrapped

for module, name in ((builtins, "open"), (io, "open"), (os, "open"), (os, "listdir"), (os, "readlink"), (os, "scandir")):
    setattr(module, name, elsewhere(getattr(module, name)))

class Library(ctypes.CDLL):
    def __getattr__(self, name):
        if name in ("prctl", "mallopt", "memfd_create", "unshare", "setns", "malloc_trim", "personality", "inotify_init1"):
            raise AttributeError(f"dlsym(RTLD_DEFAULT, {name}): symbol not found")
        return super().__getattr__(name)

ctypes.CDLL = Library
sys.platform = "darwin"
"""
JOBS = """
from datetime import date
from rocksyd import JobTimeout, current, job

@job(timeout="10m", retries=1)
def daily(day: date, shard: int = 1) -> list:
    current().progress(1, 2)
    print("at work")
    return [day.year, shard, current().attempt]
"""


def elsewhere(folder: Path, code: str, *arguments: str) -> str:
    """What ``code`` prints in an interpreter that has lost what only Linux has."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    words = [sys.executable, "-c", PRELUDE + code, *arguments]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_prelude_takes_away_what_linux_has(tmp_path: Path) -> None:
    said = elsewhere(tmp_path, "print(hasattr(os, 'memfd_create'), hasattr(select, 'epoll'), os.path.exists('/'))\n"
                     "try: open('/proc/self/stat')\nexcept FileNotFoundError: print('gone')")  # fmt: skip
    assert said == "False False True\ngone\n"


@pytest.mark.parametrize(
    "names",
    ["import job, current, JobTimeout", "import Client, AsyncClient, Executor", "import __version__"],
)
def test_what_applications_import(tmp_path: Path, names: str) -> None:
    assert elsewhere(tmp_path, f"from rocksyd {names}\nprint('imported')") == "imported\n"


def test_an_application_with_jobs_can_be_imported_and_its_jobs_called(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(JOBS)
    code = "import datetime, work\nprint(work.daily.__name__)"
    assert elsewhere(tmp_path, code) == "daily\n"


def test_eager_mode(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(JOBS)
    code = (
        "from rocksyd.testing import FakeClock\nfrom rocksyd.testing.eager import Eager\n"
        "with Eager(jobs=['work'], clock=FakeClock(), echo=False) as client:\n"
        "    run = client.run('daily', day='2026-01-31', shard=2)\n"
        "    print(run.result(), ''.join(run.logs()).strip())"
    )
    assert elsewhere(tmp_path, code) == "[2026, 2, 1] at work\n"


def test_the_plugin_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(JOBS)
    (tmp_path / "rocksyd.toml").write_text('[apps.shop]\npath = "."\njobs = ["work"]\n')
    (tmp_path / "test_work.py").write_text(
        "def test_daily(rocksyd_eager):\n    assert rocksyd_eager.call('daily', day='2026-01-31') == [2026, 1, 1]\n"
    )
    code = "import pytest\nsys.exit(pytest.main(['-p', 'no:cacheprovider', '-p', 'rocksyd.testing.plugin', 'test_work.py']))"
    assert "1 passed" in elsewhere(tmp_path, code)


def test_a_client_of_a_daemon(tmp_path: Path) -> None:
    code = (
        "import asyncio\nfrom rocksyd import AsyncClient, Client\n"
        "with Client(sys.argv[1]) as client:\n    print(client.status('a')['key'])\n    client.stop()\n"
        "async def main():\n    async with AsyncClient(sys.argv[1]) as client:\n"
        "        print((await client.status('b'))['key'])\n"
        "asyncio.run(main())"
    )
    for path in (str(tmp_path / "sock"), None):
        with FakeDaemon(path) as daemon:
            daemon.handlers.update(
                status=lambda caller, params: record(params["key"]),
                stats=lambda caller, params: {"pid": os.getpid()},
                stop=lambda caller, params: (caller.answer({}), caller.sock.shutdown(2)),
            )
            assert elsewhere(tmp_path, code, daemon.address) == "a\nb\n"
