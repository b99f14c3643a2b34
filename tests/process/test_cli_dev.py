"""`rocksyd dev`: what runs print is shown, a changed file reloads, a broken one is reported and the old code goes on."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rocksyd import Client
from rocksyd.testing.daemon import TIMEOUT, command_line, until
from tests.process.django_project import project

JOBS = """
from rocksyd import job

@job
def version():
    print("said by a job")
    return {version}

@job
def broken():
    raise ValueError("oh dear")
"""
TOML = 'listen = ["unix://d.sock"]\n[apps.app]\npath = "app"\njobs = ["jobs"]\n'


class Dev:
    """`rocksyd dev` with its output in a pipe."""

    def __init__(self, folder: Path, *words: str, program: tuple[str, ...] = ("-m", "rocksyd.cli")) -> None:
        self.folder = folder
        command = [sys.executable, *program, "dev", *words]
        environment = {**os.environ, "PYTHONUTF8": "1"}
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
        self.said = ""

    def saw(self, text: str) -> str:
        """Read on until ``text`` (a pattern) has been said; what was said up to its end, and never looked at again."""
        assert self.process.stdout is not None
        while (found := re.search(text, self.said)) is None:
            assert select.select([self.process.stdout], [], [], TIMEOUT)[0], f"waited in vain for {text!r} behind:\n{self.said}"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"it ended without {text!r}:\n{self.said}"
            self.said += data.decode()
        before, self.said = self.said[: found.end()], self.said[found.end() :]
        return before

    def client(self) -> Client:
        return Client(f"unix://{self.folder}/d.sock")

    def end(self, number: int = signal.SIGINT) -> int:
        assert self.process.stdout is not None
        self.process.send_signal(number)
        self.said += self.process.stdout.read().decode()
        return self.process.wait(TIMEOUT)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A short one: a unix socket is in it."""
    with tempfile.TemporaryDirectory(prefix="dev-") as name:
        folder = Path(name)
        (folder / "app").mkdir()
        (folder / "app" / "jobs.py").write_text(JOBS.format(version=1))
        (folder / "rocksyd.toml").write_text(TOML)
        yield folder


@contextmanager
def development(folder: Path, *words: str, program: tuple[str, ...] = ("-m", "rocksyd.cli")) -> Iterator[Dev]:
    dev = Dev(folder, *words, program=program)
    try:
        yield dev
    finally:
        if dev.process.poll() is None:
            dev.end()
        assert dev.process.stdout is not None
        dev.process.stdout.close()


def test_a_changed_file_reloads_and_a_broken_one_leaves_the_old_code(folder: Path) -> None:
    with development(folder) as dev, dev.client() as client:
        assert "rocksyd run version --wait" in dev.saw("Ctrl-C stops\n")
        assert client.call("version") == 1
        shown = dev.saw("✓")
        assert re.search(r"version +\w{8} │ said by a job\n", shown)
        (folder / "app" / "jobs.py").write_text("syntax error\n")
        reported = dev.saw("SyntaxError: .*\n")
        assert "not reloaded (app/jobs.py), the code before goes on: jobs module 'jobs' cannot be loaded" in reported
        assert "loaded afresh" not in reported  # that is for what nobody has ordered
        assert client.call("version") == 1
        dev.saw("✓")
        (folder / "app" / "jobs.py").write_text(JOBS.format(version=2))
        dev.saw(r"✓ reloaded in .*, generation \d+ \(app/jobs.py\)")
        assert client.call("version") == 2
        with pytest.raises(Exception, match="oh dear"):
            client.call("broken")
        assert "broken" in dev.saw("✗ failed: ValueError: oh dear")
        assert dev.end() == 0


def test_another_configuration_restarts_and_new_folders_are_watched(folder: Path) -> None:
    with development(folder) as dev, dev.client() as client:
        dev.saw("Ctrl-C stops\n")
        (folder / "two").mkdir()
        (folder / "two" / "second.py").write_text("from rocksyd import job\n@job\ndef second():\n    return 1\n")
        (folder / "rocksyd.toml").write_text(TOML + '[apps.two]\npath = "two"\njobs = ["second"]\n')
        dev.saw(r"✓ reloaded .*rocksyd\.toml")
        assert client.call("second") == 1
        (folder / "two" / "second.py").write_text("from rocksyd import job\n@job\ndef second():\n    return 2\n")
        dev.saw(r"✓ reloaded .*two/second\.py")
        assert client.call("second") == 2


def test_an_application_that_is_broken_at_first_is_waited_for(folder: Path) -> None:
    (folder / "app" / "jobs.py").write_text("import nowhere_to_be_found\n")
    with development(folder) as dev, dev.client() as client:
        assert "nowhere_to_be_found" in dev.saw("waiting for a change")
        (folder / "app" / "jobs.py").write_text(JOBS.format(version=3))
        dev.saw("Ctrl-C stops\n")
        assert client.call("version") == 3
        assert dev.end(signal.SIGTERM) == 0


def test_it_can_be_left_while_it_waits_for_a_change(folder: Path) -> None:
    (folder / "app" / "jobs.py").write_text("import nowhere_to_be_found\n")
    with development(folder) as dev:
        dev.saw("waiting for a change")
        assert dev.end() == 0
    with development(folder, "--no-reload") as dev:
        assert dev.end(0) == 1
        assert "nowhere_to_be_found" in dev.said


def test_the_daemon_does_not_outlive_it(folder: Path) -> None:
    with development(folder) as dev, dev.client() as client:
        dev.saw("Ctrl-C stops\n")
        pid = client.stats()["pid"]
        assert "keeper" in command_line(pid)
        dev.process.kill()
        dev.process.wait(TIMEOUT)
        until(lambda: "keeper" not in command_line(pid), "the daemon's end")


def test_without_reload_it_is_serve_with_the_runs_shown(folder: Path) -> None:
    with development(folder, "--no-reload") as dev, dev.client() as client:
        dev.saw("Ctrl-C stops\n")
        (folder / "app" / "jobs.py").write_text(JOBS.format(version=4))
        assert client.call("version") == 1
        dev.saw("said by a job")
        client.stop()
        assert dev.process.wait(TIMEOUT) == 0


def test_a_django_project_is_developed_by_manage_py(folder: Path) -> None:
    pytest.importorskip("django", reason="the extra `examples` is not installed")
    project(folder, installed="rocksyd.contrib.django").close()
    command = folder / "app" / "mail" / "management" / "commands" / "digest.py"
    with development(folder, program=("app/manage.py", "rocksyd")) as dev, dev.client() as client:
        dev.saw("Ctrl-C stops\n")
        assert "'hours': 24" in client.call("django:digest", box="in", to="a")
        assert re.search(r"django:digest +\w{8} │ to standard output", dev.saw("✓"))
        command.write_text(command.read_text().replace("default=24", "default=12"))
        dev.saw(r"✓ reloaded .*app/mail/management/commands/digest\.py")
        assert "'hours': 12" in client.call("django:digest", box="in", to="a")
