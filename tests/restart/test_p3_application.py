"""P3: A restart that cannot succeed changes nothing, and says why. Here the application or the configuration is to blame."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import edited
from tests.ports import free_port
from tests.restart.stage import JOBS, Unharmed, gate, order

BROKEN_JOBS = {
    "a syntax error": ("def broken(:\n", ["jobs.py", "line 1", "SyntaxError"]),
    "an import that is missing": ("\n\nimport no_such_module_anywhere\n", ["jobs.py", "line 3", "no_such_module_anywhere"]),
    "an exception": ("\ndef f():\n    raise RuntimeError('no database')\n\nf()\n", ["jobs.py", "line 5", "no database"]),
    "a hang": ("import signal\nsignal.pause()\n", ["app", "prepare_timeout"]),
    "a busy loop": ("while True: pass\n", ["app", "prepare_timeout"]),
    "sys.exit": ("import sys\nsys.exit(3)\n", ["SystemExit", "3"]),
    "os._exit": ("import os\nos._exit(3)\n", ["app", "3"]),
    "its own death": ("import os\nos.kill(os.getpid(), 9)\n", ["app", "SIGKILL"]),
    "a thread": (
        "import threading\nthreading.Thread(target=threading.Event().wait, name='stray', daemon=True).start()\n",
        ["stray", "jobs.py"],
    ),
    "a socket": ("import socket\nkept = socket.socketpair()\nkept[0].send(b'x')\n", ["socket", "jobs.py:2"]),
    "a fork that comes back twice": (
        "import os\nif os.fork() == 0:\n    raise RuntimeError('child')\nraise RuntimeError('parent')\n",
        ["parent"],
    ),
}


@pytest.mark.parametrize("what", BROKEN_JOBS)
def test_p3_broken_code_of_the_application_leaves_the_old_code_serving(tmp_path: Path, what: str) -> None:
    text, expected = BROKEN_JOBS[what]
    with Daemon(tmp_path, JOBS) as daemon, Unharmed(daemon, tmp_path) as unharmed:
        with edited(daemon.app / "jobs.py", text):
            unharmed.refused(expected, impatient="prepare_timeout" if "prepare_timeout" in expected else "")
        unharmed.repaired()


CHECKS = {
    "raises": ("raise RuntimeError('cannot reach the bank')", ["cannot reach the bank", "checks.py"]),
    "exits": ("import sys; sys.exit(4)", ["4"]),
    "dies": ("import os; os.kill(os.getpid(), 11)", ["SIGSEGV"]),
    "hangs": ("import signal; signal.pause()", ["app", "prepare_timeout"]),
}


@pytest.mark.parametrize("what", CHECKS)
def test_p3_a_smoke_check_that_fails_leaves_the_old_code_serving(tmp_path: Path, what: str) -> None:
    line, expected = CHECKS[what]
    (tmp_path / "app").mkdir()
    checks = tmp_path / "app" / "checks.py"
    checks.write_text("def ready():\n    pass\n")
    parts = {"app": 'smoke = "checks:ready"'}
    with Daemon(tmp_path, JOBS, parts=parts) as daemon, Unharmed(daemon, tmp_path) as unharmed:
        with edited(checks, f"def ready():\n    {line}\n"):
            unharmed.refused(expected, impatient="prepare_timeout" if "prepare_timeout" in expected else "")
        unharmed.repaired()


Edit = Callable[[str], str]
BROKEN_CONFIG: dict[str, tuple[Edit, list[str]]] = {
    "a syntax error": (lambda text: text + "\nmax_jobs = \n", ["rocksyd.toml:", "not valid TOML"]),
    "a wrong type": (lambda text: text.replace("max_workers = 4", 'max_workers = "4"'), ["rocksyd.toml:", "max_workers", '"4"']),
    "an unknown key": (lambda text: text + "\nmax_worker = 3\n", ["rocksyd.toml:", "max_worker"]),
    "an impossible combination": (
        lambda text: text.replace("min_spare = 1", "min_spare = 9"),
        ["rocksyd.toml:", "min_spare is 9"],
    ),
    "a folder that is not there": (
        lambda text: text.replace('path = "app"', 'path = "elsewhere"'),
        ["rocksyd.toml:", "path", "elsewhere"],
    ),
    "an interpreter that is not there": (
        lambda text: text.replace('path = "app"', 'path = "app"\npython = "venv/bin/python"'),
        ["rocksyd.toml:", "python", "no such file"],
    ),
    "another state_dir": (
        lambda text: text.replace('state_dir = "var"', 'state_dir = "other"'),
        ["state_dir", "cannot move the journal"],
    ),
    "an address nobody may have": (
        lambda text: text.replace('d.sock"]', 'd.sock", "tcp://192.0.2.1:80"]\nauth = "token"\ntoken_file = "token"'),
        ["192.0.2.1:80", "no such address"],
    ),
    "a job's module that is not there": (lambda text: text.replace('["jobs"]', '["jobs", "more_jobs"]'), ["more_jobs"]),
    "nothing at all": (lambda text: "", ["rocksyd.toml", "no application"]),
}


@pytest.mark.parametrize("what", BROKEN_CONFIG)
def test_p3_a_broken_configuration_leaves_the_old_one_in_force(tmp_path: Path, what: str) -> None:
    edit, expected = BROKEN_CONFIG[what]
    token = tmp_path / "token"
    token.write_text("secret\n")
    token.chmod(0o600)
    with Daemon(tmp_path, JOBS) as daemon, Unharmed(daemon, tmp_path) as unharmed:
        files = set(os.listdir(tmp_path))
        with edited(daemon.config, edit(daemon.config.read_text())):
            unharmed.refused(expected)
        assert set(os.listdir(tmp_path)) == files
        unharmed.repaired()


def test_p3_an_address_that_is_taken_is_named_and_what_was_bound_beside_it_is_given_back(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))  # one that nobody is given between its close and the restart
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            Daemon(tmp_path, JOBS) as daemon,
            Unharmed(daemon, tmp_path) as unharmed,
        ):
            text = daemon.config.read_text().replace('d.sock"]', f'd.sock", "unix://new.sock", "tcp://{address}"]\nauth = "none"')
            with edited(daemon.config, text):
                unharmed.refused([address, "another program listens there"])
                assert not (tmp_path / "new.sock").exists()
                taken.close()
                unharmed.repaired()
                host, _, port = address.partition(":")
                with socket.create_connection((host, int(port)), timeout=30) as connection:
                    connection.sendall(b"version\n")
                    assert connection.recv(100).startswith(b"VERSION")


def test_p3_a_deleted_folder_of_the_application_is_named_and_old_jobs_run_on(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, Unharmed(daemon, tmp_path) as unharmed:
        daemon.app.rename(tmp_path / "moved")
        unharmed.refused(["rocksyd.toml", "path", "no such folder"])
        (tmp_path / "moved").rename(daemon.app)
        unharmed.repaired()


def test_p3_an_interpreter_that_stops_working_is_named(tmp_path: Path) -> None:
    python = tmp_path / "python"
    real = os.path.realpath("/proc/self/exe")
    python.symlink_to(real)
    parts = {"app": 'python = "./python"'}
    with Daemon(tmp_path, JOBS, parts=parts) as daemon, Unharmed(daemon, tmp_path) as unharmed:
        python.unlink()
        unharmed.refused(["rocksyd.toml", "python", "no such file"])
        python.write_text("#!/bin/sh\necho this interpreter is broken >&2\nexit 9\n")
        python.chmod(0o755)
        unharmed.refused(["app", "status 9"])
        python.write_bytes(b"\x7fELF not really")
        unharmed.refused(["python", "Exec format error"])
        python.unlink()
        python.symlink_to(real)
        unharmed.repaired()


def test_p3_a_failed_restart_is_told_to_everyone_who_ordered_it(tmp_path: Path) -> None:
    with Daemon(tmp_path, JOBS) as daemon, gate(tmp_path) as held:
        classic, rpc, late = daemon.talk(), daemon.talk(), daemon.talk()
        with edited(daemon.app / "jobs.py", f"open({str(held.path)!r}).read()\nraise RuntimeError('never mind')\n"):
            classic.send("restart")
            held.wait_entered()
            rpc.send(order("restart", 3))
            late.send("restart")
            os.kill(daemon.pid, signal.SIGHUP)
            daemon.talk().rpc("health")
            held.open()
            assert "never mind" in json.loads(classic.line())["error_text"]
            held.open()  # the one more restart that the later orders have become
            reply = json.loads(rpc.line())
            assert reply["id"] == 3
            assert reply["error"]["code"] == -32005
            assert "never mind" in reply["error"]["message"]
            assert "never mind" in json.loads(late.line())["error_text"]
        assert classic.ask("restart") == {"error_text": "Restarted successfully"}
