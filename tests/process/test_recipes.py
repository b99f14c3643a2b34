"""What operations.md and the how-tos give to copy is copied and run: with this machine's paths, and nothing else changed."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import rocksyd
from rocksyd.testing import Conversation, until
from rocksyd.testing.daemon import TIMEOUT, descendants
from tests.files import whole

DOCS = Path(__file__).parents[2] / "docs"
CONFIG = """\
listen = ["unix://run/rocksyd.sock"]
state_dir = "var"
[apps.shop]
path = "."
jobs = ["jobs"]
allow = ["import_orders:main"]
[apps.shop.pool]
grace = "30s"
"""
JOBS = """
import os, time
from rocksyd import job

@job
def version():
    return 1

@job
def orphan(folder):
    "Leaves a process whose parent has gone."
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while not os.path.exists(f"{folder}/go"):
                time.sleep(0.01)
        os._exit(0)
    os.wait()
    return os.getppid()
"""


def block(page: str, mark: str) -> str:
    """The one block of code on a page in which ``mark`` stands."""
    (found,) = [
        text for text in re.findall(r"^```\w*\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL) if mark in text
    ]
    return str(found)


class Machine:
    """Short folders for /srv, /run, /data and /var/log, and a command that is rocksyd."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "srv" / "shop"
        self.command = root / "srv" / "rocksyd" / "bin" / "rocksyd"
        for folder in (
            self.home / "run",
            self.command.parent,
            root / "run" / "shop",
            root / "data",
            root / "var" / "log" / "shop",
        ):
            folder.mkdir(parents=True)
        package = Path(next(iter(rocksyd.__path__))).parent
        self.command.write_text(f'#!/bin/sh\nPYTHONPATH={package} exec {sys.executable} -m rocksyd "$@"\n')
        self.command.chmod(0o755)
        (self.home / "rocksyd.toml").write_text(CONFIG)
        (self.home / "jobs.py").write_text(JOBS)
        (self.home / "import_orders.py").write_text(re.sub(r"^# .*\n", "", block("how-to/scripts.md", "# import_orders.py")))
        (root / "data" / "orders.csv").write_text("sku,pieces\nS1,2\n")

    def here(self, text: str) -> str:
        """A recipe with this machine's paths."""
        return re.sub(r"(?<![\w.])/(srv|run|data|var/log)/", rf"{self.root}/\1/", text).replace(
            "/run/shop.pid", "/run/shop/rocksyd.pid"
        )

    def talk(self) -> Conversation:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self.home / "run" / "rocksyd.sock"))
        except OSError:
            connection.close()
            raise
        return Conversation(connection)

    def listens(self) -> bool:
        try:
            self.talk().close()
        except OSError:
            return False
        return True

    def works(self) -> bool:
        with self.talk() as talk:
            return bool(talk.rpc("call", target="version")["result"] == 1)


@pytest.fixture
def machine() -> Iterator[Machine]:
    root = Path(tempfile.mkdtemp(prefix="r"))
    yield Machine(root)
    shutil.rmtree(root)


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The process, and nothing of it afterwards."""
    try:
        yield process
    finally:
        if process.poll() is None:
            for pid in [*descendants(process.pid), process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        process.wait(TIMEOUT)


def shell(text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **variables}
    return subprocess.run(
        ["/bin/sh", "-c", text], env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT * 2
    )


def test_the_systemd_unit_starts_reloads_and_stops_as_it_says(machine: Machine) -> None:
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(machine.here(block("operations.md", "ExecReload=")))
    service = unit["Service"]
    assert (service["Type"], service["NotifyAccess"], service["KillMode"]) == ("notify", "main", "mixed")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(machine.root / "notify"))
        notify.settimeout(TIMEOUT)

        def heard(word: str) -> str:
            while word not in (text := notify.recv(65536).decode()).split("\n"):
                pass
            return text

        process = subprocess.Popen(
            shlex.split(service["ExecStart"]), cwd=service["WorkingDirectory"], stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": str(machine.root / "notify")},
        )  # fmt: skip
        with ended(process):
            assert f"MAINPID={process.pid}" in heard("READY=1")
            assert machine.works()
            done = shell(service["ExecReload"])
            assert (done.returncode, done.stderr) == (0, "")
            assert "MONOTONIC_USEC=" in heard("RELOADING=1")
            heard("READY=1")
            (machine.home / "jobs.py").write_text("raise RuntimeError('broken')")
            done = shell(service["ExecReload"])
            assert (done.returncode, "broken" in done.stderr) == (1, True)
            assert machine.works()
            process.send_signal(signal.SIGTERM)
            heard("STOPPING=1")
            assert process.wait(TIMEOUT) == 0


@pytest.mark.skipif(not shutil.which("start-stop-daemon"), reason="needs start-stop-daemon")
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="takes the rights of root")
def test_the_init_script_starts_stops_reloads_restarts_and_says_how_it_is(machine: Machine) -> None:
    script = machine.root / "shop"
    script.write_text(machine.here(block("operations.md", "### BEGIN INIT INFO")))
    script.chmod(0o755)
    pid_file = machine.root / "run" / "shop" / "rocksyd.pid"
    assert str(pid_file) in script.read_text()

    def service(word: str) -> int:
        done = subprocess.run(
            [script, word], env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, capture_output=True, text=True, check=False
        )
        assert done.returncode in ((0,) if word == "start" else (0, 1, 2, 3)), done.stderr
        return done.returncode

    assert service("status") == 3
    assert service("stop") == 0
    assert service("start") == 0
    try:
        first = int(pid_file.read_text())
        assert machine.works()
        assert (service("status"), service("start"), int(pid_file.read_text())) == (0, 0, first)
        assert (service("reload"), int(pid_file.read_text())) == (0, first)
        with machine.talk() as talk:
            assert talk.rpc("stats")["generation"] == 2
        (machine.home / "jobs.py").write_text("raise RuntimeError('broken')")
        assert (service("reload"), machine.works()) == (1, True)
        (machine.home / "jobs.py").write_text(JOBS)
        assert service("restart") == 0
        assert (int(pid_file.read_text()) != first, machine.works()) == (True, True)
        assert service("what") == 2
    finally:
        assert service("stop") == 0
    assert service("status") == 3
    assert not pid_file.exists()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="takes the rights of root")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_as_the_first_process_of_a_container_it_reaps_orphans_and_hears_its_signals(machine: Machine, number: int) -> None:
    text = machine.here(block("operations.md", "STOPSIGNAL"))
    (words,) = re.findall(r"^CMD \[(.*)\]$", text, re.MULTILINE)
    command = [str(machine.command), *shlex.split(words.replace(",", " "))[1:]]
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child", *command],
        cwd=machine.home, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with ended(process):
        until(machine.listens, "it to listen")
        with machine.talk() as talk:
            assert talk.rpc("stats")["pid"] == 1
            assert talk.rpc("call", target="orphan", params=[str(machine.root)])["result"] > 1
            (machine.root / "go").touch()
            (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            until(lambda: not zombies(int(first)), "the orphan to be reaped")
            assert talk.rpc("call", target="version")["result"] == 1
        (probe,) = re.findall(r"^HEALTHCHECK CMD \[(.*)\]$", text, re.MULTILINE)
        healthy = [str(machine.command), *shlex.split(probe.replace(",", " "))[1:]]
        assert subprocess.run(healthy, cwd=machine.home, capture_output=True, check=False).returncode == 0
        os.kill(int(first), number)
        assert process.wait(TIMEOUT) == 0


def zombies(pid: int) -> list[int]:
    """Descendants that have ended and nobody has waited for, or that go on although nobody knows them."""
    found = []
    for child in descendants(pid):
        try:
            stat, title = Path(f"/proc/{child}/stat").read_text(), Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if stat.rpartition(")")[2].split()[0] == "Z" or b"orphan" in title:
            found.append(child)
    return found


def test_logrotate_s_way_loses_no_line_and_fills_a_new_file(machine: Machine) -> None:
    recipe = machine.here(block("operations.md", "postrotate"))
    log, pid_file = machine.root / "var/log/shop/rocksyd.log", machine.root / "run" / "shop" / "rocksyd.pid"
    command = [
        str(machine.command),
        "serve",
        "-c",
        "rocksyd.toml",
        "--daemon",
        "--pid-file",
        str(pid_file),
        "--log-file",
        str(log),
    ]
    subprocess.run(command, cwd=machine.home, check=True, capture_output=True)
    end = os.pidfd_open(int(pid_file.read_text()))
    until(lambda: "serves shop" in whole(log), "the first line that the old file has to keep")
    try:
        if shutil.which("logrotate"):
            config = machine.root / "logrotate.conf"
            config.write_text(recipe)
            config.chmod(0o644)
            done = shell(f"logrotate --force --state {machine.root}/state {config}")
            assert (done.returncode, done.stderr) == (0, "")
        else:
            log.rename(log.with_name("rocksyd.log.1"))
            (order,) = re.findall(r"postrotate\n(.*?)endscript", recipe, re.DOTALL)
            assert shell(order).returncode == 0
        until(log.exists, "a new file")
        (machine.home / "jobs.py").write_text("raise RuntimeError('broken')")
        with machine.talk() as talk:
            assert "broken" in talk.ask("restart")["error_text"]
        assert "serves shop" in whole(log.with_name("rocksyd.log.1"))
        until(lambda: "broken" in whole(log), "what went wrong to stand in the new file")
    finally:
        signal.pidfd_send_signal(end, signal.SIGTERM)
        until(lambda: not pid_file.exists(), "its end")
        os.close(end)


@contextmanager
def serving(machine: Machine) -> Iterator[None]:
    command = [str(machine.command), "serve", "-c", "rocksyd.toml"]
    process = subprocess.Popen(command, cwd=machine.home, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with ended(process):
        until(machine.listens, "it to listen")
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0


def test_cron_finds_the_command_with_the_path_that_its_table_sets(machine: Machine) -> None:
    environment = {"HOME": str(machine.root), "LOGNAME": "shop", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    ran = []
    with serving(machine):
        for line in machine.here(block("how-to/scripts.md", "15 3 * * *")).splitlines():
            if name := re.fullmatch(r"(\w+)=(.*)", line):
                environment[name[1]] = name[2]
            elif "&& rocksyd" in line:
                order = line.split(maxsplit=5)[5].replace("\\%", "%")  # as crontab(5) has it
                done = subprocess.run(["/bin/sh", "-c", order], env=environment, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stdout + done.stderr
                ran.append(done.stdout)
    assert (machine.home / "import.log").read_text().splitlines() == ["S1 2", "{'orders': 1}"]
    assert [output.splitlines()[-1:] for output in ran] == [[], ['{"orders": 1}']]


def test_the_health_probe_works_where_neither_rocksyd_nor_nc_is_installed(machine: Machine) -> None:
    text = block("operations.md", "rocksyd health  ").partition("nc either:\n")[2]
    assert re.search(r"\bnc\b", text) is None
    with serving(machine):
        assert shell(f"cd {machine.home} && {text}").returncode == 0
    assert shell(f"cd {machine.home} && {text}").returncode != 0
