"""`rocksyd doctor`: an application loaded as the daemon would load it, and everything that is found."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import textwrap
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import until
from tests.process.test_cli import command, environment, rocksyd

JOBS = """
from rocksyd import job

@job
def add(a, b):
    return a + b
"""


class Stage:
    """A folder with an application ``app`` and its configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = folder / "app"
        self.app.mkdir()
        self.module("jobs", JOBS)
        self.configure()

    def module(self, name: str, source: str) -> None:
        path = self.app / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))

    def configure(self, *lines: str, preload: tuple[str, ...] = (), top: str = "") -> None:
        settings = [top, "[apps.app]", 'path = "app"', 'jobs = ["jobs"]', f"preload = {json.dumps(preload)}", *lines]
        (self.folder / "rocksyd.toml").write_text("\n".join(settings) + "\n")

    def doctor(self, *arguments: str) -> Any:
        return rocksyd(None, "doctor", *arguments, cwd=self.folder)

    def examine(self, status: int) -> dict[str, Any]:
        """The report of the application, from ``--json``."""
        done = self.doctor("--json")
        assert done.returncode == status, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        assert answer["ok"] == (status == 0)
        report: dict[str, Any] = answer["apps"]["app"]
        return report


@pytest.fixture
def stage() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory() as name:
        yield Stage(Path(name))


def found(report: dict[str, Any], code: str) -> dict[str, Any]:
    """The only finding of this kind."""
    [finding] = [one for one in report["findings"] if one["code"] == code]
    finding_: dict[str, Any] = finding
    return finding_


def test_a_healthy_application_is_0_and_everything_is_measured(stage: Stage) -> None:
    stage.module("fine", "import decimal\ntable = [str(n) for n in range(50_000)]\n")
    stage.configure(preload=("fine",))
    report = stage.examine(0)
    assert {finding["level"] for finding in report["findings"]} <= {"hints"}
    loaded, forks, sharing = report["loaded"], report["forks"], report["sharing"]
    assert loaded["jobs"] == ["add"]
    assert loaded["memory"] > loaded["memory_before"] > 0
    assert forks["ms"] > 0
    assert forks["scattered_ms"] > 0
    assert (sharing["start"]["error"], sharing["collection"]["error"]) == ("", "")
    [table] = [row for row in sharing["packages"] if row["package"] == "fine"]
    assert table["objects"] > 50_000
    # 50,000 strings of about 50 bytes: reading them has written to the pages that they are on.
    assert table["copied"] > 2_000_000
    [step] = [step for step in report["imports"]["steps"] if step["name"] == "preload entry 'fine'"]
    assert step["imports"][0]["name"] == "fine"
    assert step["ms"] >= step["imports"][0]["ms"] > 0


def test_a_thread_and_a_socket_break_and_the_import_that_did_it_is_named(stage: Stage) -> None:
    stage.module("shop.__init__", "import shop.poller, shop.cache\n")
    stage.module(
        "shop.poller",
        """
        import threading
        threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
        """,
    )
    stage.module("shop.cache", "import socket\nkept = socket.socketpair()\n")
    stage.configure(preload=("shop",))
    report = stage.examine(1)
    thread = found(report, "thread")
    assert thread["level"] == "breaks"
    assert "preload entry 'shop' left a thread running: 'poller', by shop.poller (" in thread["text"]
    assert "poller.py:3), in import shop > shop.poller" in thread["text"]
    assert "@rocksyd.jobs.after_fork" in thread["advice"]
    sockets = [finding["text"] for finding in report["findings"] if finding["code"] == "socket"]
    assert len(sockets) == 2
    assert all("by shop.cache (" in text and "in import shop > shop.cache" in text for text in sockets)


def test_a_thread_that_no_line_of_python_started_is_found_by_the_import_it_came_in(stage: Stage) -> None:
    stage.module("outer", "import json, inner\n")
    stage.module(
        "inner", "import _thread\nlock = _thread.allocate_lock()\nlock.acquire()\n_thread.start_new_thread(lock.acquire, ())\n"
    )
    stage.configure(preload=("outer",))
    text = found(stage.examine(1), "thread")["text"]
    assert "(started by C code), in import outer > inner" in text


def test_what_the_daemon_only_warns_of_does_not_break(stage: Stage) -> None:
    stage.module("poller", "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n")
    stage.configure('unsafe = "warn"', preload=("poller",))
    assert found(stage.examine(0), "thread")["level"] == "warns"


def test_a_thread_that_the_hooks_end_is_no_finding(stage: Stage) -> None:
    stage.module(
        "poller",
        """
        import threading
        from rocksyd.jobs import before_fork
        over = threading.Event()
        thread = threading.Thread(target=over.wait)
        thread.start()
        @before_fork
        def stop():
            over.set()
            thread.join()
        """,
    )
    stage.configure(preload=("poller",))
    assert not [one for one in stage.examine(0)["findings"] if one["code"] == "thread"]


def test_an_object_that_every_worker_would_share_is_found_where_it_is_held(stage: Stage) -> None:
    stage.module(
        "shop",
        """
        import random, secrets, sqlite3
        dice = random.Random()
        secret = random.SystemRandom()
        class Store:
            connection = sqlite3.connect(":memory:")
        """,
    )
    stage.configure(preload=("shop",))
    texts = [finding["text"] for finding in stage.examine(0)["findings"] if finding["code"] == "library"]
    assert len(texts) == 2
    assert any(text.startswith("shop:dice holds a random.Random (") for text in texts)
    assert any(text.startswith("shop:Store.connection holds a sqlite3.Connection (") for text in texts)


def test_what_one_run_copies_is_told_by_package(stage: Stage) -> None:
    stage.module("table", "rows = [str(n) for n in range(50_000)]\n")
    stage.module(
        "jobs",
        """
        import table
        from rocksyd import current, job
        @job
        def reads(): return sum(len(row) for row in table.rows)
        @job
        def rests(number): return current().key * number
        @job
        def fails(): raise ValueError("not today")
        """,
    )
    copied = {}
    for name, params in (("reads", "[]"), ("rests", "[1]"), ("fails", "[]")):
        done = stage.doctor("--json", "--run", name, "--params", params)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)["apps"]["app"]
        assert report["run"]["target"] == f"jobs:{name}"
        copied[name] = report["run"]["copied"].get("table", 0)
        failed = [finding["text"] for finding in report["findings"] if finding["code"] == "run_failed"]
        assert failed == (["the run of jobs:fails failed: ValueError: not today"] if name == "fails" else [])
    # 50,000 strings of about 50 bytes: reading them has written to the pages that they are on.
    assert copied["reads"] > 2_000_000 > 10 * copied["rests"]


def test_a_run_needs_one_application(stage: Stage) -> None:
    text = (stage.folder / "rocksyd.toml").read_text()
    (stage.folder / "rocksyd.toml").write_text(text + text.replace("[apps.app]", "[apps.other]"))
    done = stage.doctor("--run", "add")
    assert done.returncode == 1
    assert "--run needs one application: add --app NAME (app, other)" in done.stderr


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_text_fits_its_terminal(stage: Stage, columns: int) -> None:
    stage.module("poller", "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n")
    stage.configure(preload=("poller",))
    text = on_terminal(command("doctor", "--all"), columns, stage.folder)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert max(map(len, lines)) <= columns
    assert "✗ preload entry 'poller'" in " ".join(line.strip() for line in lines)


def on_terminal(words: list[str], columns: int, folder: Path) -> str:
    """What a command writes on a terminal of this width."""
    terminal, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(words, cwd=folder, env=environment(TERM="xterm"), stdout=other, stderr=other, stdin=other)
    os.close(other)
    data = b""
    try:
        while part := os.read(terminal, 65536):
            data += part
    except OSError:  # EIO: nobody has the other side any more
        pass
    finally:
        os.close(terminal)
        process.wait(30)
    return data.decode()


BROKEN = {
    "raises": ("import json\nraise ValueError('not today')\n", "load_failed", "ValueError: not today"),
    "dies": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
        "load_died",
        "was killed by SIGKILL while preload entry",
    ),
    "leaves": ("import os\nos._exit(3)\n", "load_died", "exited with status 3 while preload entry 'broken' was loaded"),
    "hook": (
        "from rocksyd.jobs import after_fork\n@after_fork\ndef connect(): raise OSError('no database')\n",
        "after_fork",
        "a forked worker cannot start: OSError: no database",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_loaded_is_1_and_says_why(stage: Stage, name: str) -> None:
    source, code, text = BROKEN[name]
    stage.module("broken", source)
    stage.configure(preload=("broken",))
    report = stage.examine(1)
    assert text in found(report, code)["text"]
    if code == "load_died":
        assert "(importing preload entry 'broken' > broken" in found(report, code)["text"]


def test_a_preload_that_hangs_is_ended_and_the_import_is_named(stage: Stage) -> None:
    stage.module("outer", "import inner\n")
    stage.module("inner", "import threading\nthreading.Event().wait()\n")
    stage.configure(preload=("outer",), top='[restart]\nprepare_timeout = "5s"')
    text = found(stage.examine(1), "load_timeout")["text"]
    assert "not loaded within 5s" in text
    assert "(importing preload entry 'outer' > outer > inner)" in text


def test_nothing_that_the_preload_started_is_left(stage: Stage) -> None:
    stage.module("starts", "import subprocess\nprocess = subprocess.Popen(['sleep', '600'])\nprint(process.pid)\n")
    stage.configure(preload=("starts",))
    done = stage.doctor("--json")
    report = json.loads(done.stdout)["apps"]["app"]
    assert "left a child process running" in found(report, "child_process")["text"]
    # What the application prints is not in the way of the JSON, and its process is gone.
    pid = int(next(line for line in done.stderr.splitlines() if line.isdigit()))
    assert not Path(f"/proc/{pid}").exists()


def test_an_interpreter_that_has_nothing_installed(stage: Stage) -> None:
    venv.create(stage.folder / "venv", with_pip=False, symlinks=True)
    stage.configure('python = "venv/bin/python"')
    report = stage.examine(0)
    assert report["begin"]["executable"] == str(stage.folder / "venv" / "bin" / "python")


def test_a_running_daemon_is_not_disturbed(tmp_path: Path) -> None:
    with Daemon(tmp_path / "daemon", JOBS) as daemon:
        until(lambda: "serves app" in daemon.log(), "it says that it serves")
        before = sorted(os.listdir(daemon.folder / "var")), daemon.log()
        done = rocksyd(None, "doctor", "-c", str(daemon.config), "--json")
        assert done.returncode == 0, done.stderr
        assert (sorted(os.listdir(daemon.folder / "var")), daemon.log()) == before
        with daemon.client() as client:
            assert client.call("add", 1, 2) == 3


def test_ctrl_c_ends_the_application_too(stage: Stage) -> None:
    event = stage.folder / "event"
    os.mkfifo(event)
    stage.module("slow", f"import os, threading\nopen({str(event)!r}, 'w').write(str(os.getpid()))\nthreading.Event().wait()\n")
    stage.configure(preload=("slow",))
    with subprocess.Popen(command("doctor"), cwd=stage.folder, env=environment(), stderr=subprocess.DEVNULL) as process:
        pid = int(event.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert not Path(f"/proc/{pid}").exists()


def test_an_application_that_is_not_there_is_said(stage: Stage) -> None:
    done = stage.doctor("--app", "shop")
    assert done.returncode == 1
    assert "has no application 'shop'; it has: app" in done.stderr


LAZY = shutil.which("python3.15") or (sys.executable if sys.version_info >= (3, 15) else "")
"""A Python that knows ``lazy import``."""


@pytest.mark.skipif(not LAZY, reason="needs a Python that knows lazy imports (3.15)")
def test_lazy_imports_are_made_before_the_first_fork_and_named(stage: Stage) -> None:
    stage.module("views", "lazy import csv, orders\nlazy from colorsys import rgb_to_hsv\nlazy import no_such_module\n")
    stage.module("orders", "lazy import wave\n")
    stage.module(
        "jobs",
        "import sys\nimport views\ndef loaded(): return [n in sys.modules for n in ('csv', 'orders', 'colorsys', 'wave')]\n",
    )
    stage.configure(f"python = {json.dumps(LAZY)}", 'allow = ["jobs:loaded"]', 'smoke = "jobs:check"')
    stage.module("jobs", (stage.app / "jobs.py").read_text() + "def check(): assert all(loaded())\n")
    report = stage.examine(0)
    finding = found(report, "lazy_imports")
    assert finding["text"] == "orders, views import lazily: csv, orders, rgb_to_hsv, wave"
    warnings = [one["text"] for one in report["findings"] if one["code"] == "load_warning"]
    assert sum("no_such_module in views fails: ModuleNotFoundError" in text for text in warnings) == 1
    steps = {step["name"]: step for step in report["imports"]["steps"]}
    assert {"csv", "orders"} <= {child["name"] for child in steps["lazy imports"]["imports"]}


def test_a_free_threaded_python_is_refused_with_the_way_out(stage: Stage) -> None:
    """With a real one where there is one (``python3.13t``), else with this one, which says that it is."""
    real = next(filter(None, map(shutil.which, ("python3.15t", "python3.14t", "python3.13t"))), "")
    if not real:
        wrapper = stage.folder / "python3t"
        boot = "import runpy, sys, sysconfig; sysconfig.get_config_vars(); sys.abiflags += 't'; sys.argv = sys.argv[1:]; "
        boot += "runpy.run_path(sys.argv[0], run_name='__main__')"
        wrapper.write_text(f'#!/bin/sh\nwhile [ "${{1#-}}" != "$1" ]; do shift; done\nexec {sys.executable} -c "{boot}" "$@"\n')
        wrapper.chmod(0o755)
        real = str(wrapper)
    stage.configure(f"python = {json.dumps(real)}")
    text = found(stage.examine(1), "load_failed")["text"]
    assert "is a free-threaded Python (" in text
    assert text.endswith("which rocksyd does not fork: set python of [apps.app] to one with the interpreter lock")
