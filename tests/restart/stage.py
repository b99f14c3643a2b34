"""What the tests of restarts share: jobs that wait for the test, a window held open, descriptors by kind."""

from __future__ import annotations

import ast
import errno
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, edited, until

JOBS = """
import os, signal, subprocess, sys, time
from rocksyd import current, job

VERSION = 1

@job
def version():
    return VERSION

@job
def add(a, b):
    return a + b

@job
def say(text, times=1):
    for _ in range(times):
        print(text)
    return times

@job
def leave(status):
    sys.exit(status)

@job
def gate(path):
    "Waits until the test opens the gate: then returns what it wrote."
    with open(path) as file:
        print("entered", flush=True)
        return [VERSION, file.read()]

@job
def deaf(path):
    "As gate, and TERM does not end it."
    signal.signal(signal.SIGTERM, lambda *_: None)
    return gate(path)

@job
def sleep(seconds):
    time.sleep(seconds)
    return "slept"

@job
def descriptors():
    "What this process and a process started by it have open, apart from what they look with."
    look = "import os; print(*sorted(n for n in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + n)))"
    own = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            own[name] = os.readlink("/proc/self/fd/" + name)
        except FileNotFoundError:
            continue
    own = {name: target for name, target in own.items() if "/libffi.so" not in target}
    process = subprocess.run([sys.executable, "-I", "-S", "-c", look], capture_output=True, close_fds=False)
    return [own, process.stdout.decode().split()]

class Original:
    def run(self, params):
        sys.exit(len(params))
"""

FAST = 'pm = "dynamic"\nmax_workers = 4\nmin_spare = 1\nmax_spare = 2\ngrace = "30s"'


class Gate:
    """A place where a process waits until the test says go: a named pipe, so nobody polls."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        os.mkfifo(path)

    def wait_entered(self) -> None:
        """Wait until somebody waits at the gate."""

        def entered() -> bool:
            try:
                self._fd = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return False
            return True

        until(entered, f"somebody at the gate {self.path.name}")

    def open(self, text: str | bytes = "go") -> None:
        """Let through whoever waits (waits for them first)."""
        if self._fd < 0:
            self.wait_entered()
        os.write(self._fd, text.encode() if isinstance(text, str) else text)
        self.close()

    def close(self) -> None:
        """Let through, with nothing said."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@contextmanager
def gate(folder: Path, name: str = "gate") -> Iterator[Gate]:
    """A gate, closed with the test."""
    made = Gate(folder / name)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def window(package: Path, folder: Path, at: str = "_take_over") -> Iterator[Gate]:
    """From now on a new master that a restart starts waits at a gate before it does ``at``.

    ``_take_over``: the old master is frozen and clients wait. ``_listen``: the new one prepares, and the old one serves.
    """
    with gate(folder, f"window{at}") as held, patched(package, at, f"open({str(held.path)!r}).read()"):
        yield held


@contextmanager
def patched(package: Path, method: str, *lines: str) -> Iterator[None]:
    """Let a new master do something before ``method``, a step of its life, but only if a restart has started it."""
    path, owner = step(package, method)
    body = "\n".join(f"        {line}" for line in lines)
    code = f"""

_before = {owner}.{method}

def _instead(self, *arguments):
    if self.prepare.cause == "restart":
{body}
    return _before(self, *arguments)

{owner}.{method} = _instead
"""
    with edited(path, path.read_text() + code):
        yield


def step(package: Path, method: str) -> tuple[Path, str]:
    """Where a version's master has this step of its life: the file, and the class in it."""
    for path in sorted((package / "master").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and any(getattr(one, "name", "") == method for one in node.body):
                return path, node.name
    raise AssertionError(f"no master does {method} any more")


def order(method: str, identity: int = 0, **params: Any) -> str:
    """A JSON-RPC request as a line."""
    return json.dumps({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})


def many(usual: int, thorough: int) -> int:
    """How often something is repeated: ``usual`` times, or ``thorough`` times with the profile that looks longer."""
    return thorough if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else usual


def restart(daemon: Daemon) -> None:
    """Restart, and see that it says so."""
    assert daemon.restart() == {"error_text": "Restarted successfully"}


def zygotes(talk: Conversation) -> dict[str, int]:
    """Name and PID of every zygote."""
    return {name: zygote["pid"] for name, zygote in talk.rpc("health")["zygotes"].items()}


def records(talk: Conversation) -> list[dict[str, Any]]:
    """The audit of restarts, newest first."""
    found: list[dict[str, Any]] = talk.rpc("stats")["restarts"]
    return found


def kinds(daemon: Daemon, pid: int) -> Counter[str]:
    """How many descriptors of each kind a process has open."""
    found: Counter[str] = Counter()
    for target in daemon.descriptors(pid).values():
        found[target.partition(":")[0] if target.startswith(("socket:", "pipe:")) else os.path.basename(target)] += 1
    return found


class Unharmed:
    """Beside a restart that fails: a job that runs, connections in the middle of something, and that nothing happens to them."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.daemon = daemon
        self._job = Gate(folder / "job")
        self._quiet, self._half, self._waiting = daemon.talk(), daemon.talk(), daemon.talk()
        self._failures = 0

    def __enter__(self) -> Unharmed:
        self._quiet.rpc("run", target="gate", key="old", params=[str(self._job.path)])
        self._job.wait_entered()
        until(lambda: self._quiet.rpc("logs", key="old")["text"] == "entered\n", "the job to have printed")
        self._half.socket.sendall(b'unknown {"n"')
        self._waiting.send(order("wait", 1, key="old"))
        self.before = self._state()
        return self

    def __exit__(self, *_: object) -> None:
        self._job.close()

    def _state(self) -> tuple[Any, ...]:
        stats, health = self._quiet.rpc("stats"), self._quiet.rpc("health")
        status = self._quiet.rpc("status", key="old")
        masters = self.daemon.children("rocksyd: master")
        return (
            stats["master_pid"],
            masters,
            stats["generation"],
            health["ok"],
            health["listen"],
            zygotes(self._quiet),
            status["state"],
            status["pid"],
        )

    def refused(self, expected: list[str], *, impatient: str = "") -> str:
        """Order a restart; see that it is refused for a reason that names all of ``expected``, and that nothing has changed.

        ``impatient``: the setting of ``[restart]`` that is to be small, because the restart is going to hang.
        """
        text = self.daemon.config.read_text()
        with edited(self.daemon.config, f'{text}\n[restart]\n{impatient} = "4s"\n' if impatient else text):
            reply: str = self._quiet.ask("restart")["error_text"]
        assert reply.startswith("Restart failed: "), reply
        missing = [word for word in expected if word not in reply]
        assert not missing, f"{missing} not in: {reply}"
        self._failures += 1
        until(lambda: self._state() == self.before, "the old state")
        audit = records(self._quiet)
        assert len(audit) == self._failures
        assert audit[0]["ok"] is False
        assert audit[0]["reason"] == reply.removeprefix("Restart failed: ")
        assert self._quiet.ask(f'run {{"hash":{self._failures},"class":"version"}}') == {"error_text": "OK"}
        assert self._quiet.rpc("wait", key=str(self._failures))["result"] == 1
        return reply

    def repaired(self) -> None:
        """What was wrong has been put right: the next restart succeeds, and what was under way all the time goes on."""
        restart(self.daemon)
        assert self._quiet.rpc("stats")["master_pid"] != self.before[0]
        self._job.open("at last")
        assert json.loads(self._waiting.line())["result"]["result"] == [1, "at last"]
        self._half.send(":1}")
        assert b'{\\"n\\":1}' in self._half.line()
        (zygote,) = self.before[5]
        until(lambda: zygote not in self._quiet.rpc("health")["zygotes"], "the old zygote to leave")


IDLE_POOL = 'pm = "ondemand"\nmax_workers = 4\nidle_timeout = "50ms"\ngrace = "30s"'
"""No worker is there unless it has work, so that descriptors can be counted."""


def manifest(daemon: Daemon, talk: Conversation, *, connections: int, old_zygotes: int, workers: int) -> None:
    """See that every process has open exactly what it should, apart from descriptors 0, 1 and 2.

    Waits for it, because workers and old zygotes take a moment to leave; ``talk`` is one of the connections.
    """
    health = talk.rpc("health")
    listeners = len(health["listen"]) + len(health.get("exec", ()))
    channels = 1 + old_zygotes + workers
    # To the other of the two; the listeners; each connection; the master's end of the channels of zygotes and workers.
    shared = {"socket": 1 + listeners + connections + channels, "lock": 1, "scoreboard": 1}
    journal = {"journal.sqlite": 1, "journal.sqlite-wal": 1, "journal.sqlite-shm": 1}
    expected = {
        "master": {**shared, **journal, "anon_inode": 2, "busy": 2},  # busy: mmap keeps another
        "keeper": {**shared, "pipe": 2, "busy": 1, "config": 1},
        # Its channel, a pipe for SIGCHLD, the master's end of each of its workers' channels.
        "zygotes": {"socket": channels, "pipe": 2 * (1 + old_zygotes)},
        "workers": {"socket": workers} if workers else {},
    }
    found: dict[str, dict[str, int]] = {}

    def as_expected() -> bool:
        pids = {
            "master": [talk.rpc("stats")["master_pid"]],
            "keeper": [daemon.pid],
            "zygotes": list(zygotes(talk).values()),
            "workers": [record["pid"] for record in talk.rpc("list", state="running")],
        }
        try:
            for title, those in pids.items():
                found[title] = _counted(sum((kinds(daemon, pid) for pid in those), Counter()), daemon.log_path.name)
        except FileNotFoundError:  # one has just left
            return False
        return found == expected

    try:
        until(as_expected, "the descriptors of the manifest")
    except AssertionError as error:
        raise AssertionError(f"{found} instead of {expected}") from error


def _counted(found: Counter[str], log: str) -> dict[str, int]:
    """By short name, without 0, 1 and 2, which are /dev/null, the log, and a run's output (nor the gate)."""
    counted: Counter[str] = Counter()
    for name, count in found.items():
        if name not in ("null", "gate", log) and not name.endswith(".log"):
            counted[
                "anon_inode" if name.startswith("anon_inode") else name.removeprefix("memfd:rocksyd-").removesuffix(" (deleted)")
            ] += count
    return dict(counted)
