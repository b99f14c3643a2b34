"""What the tests of schedules share: a daemon with scripts, and what became of their ticks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import POOL, TIMEOUT, Conversation, until
from tests.companions.stage import companion, error, gone, wait_ready
from tests.files import lines

JOBS = """
import os
from rocksyd import current, job

HERE = os.path.dirname(__file__)

def note(text):
    fd = os.open(os.path.join(HERE, "ran"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, (text + "\\n").encode())
    os.close(fd)

@job
def tick(*params):
    run = current()
    note(run.key)
    return [run.script, run.tick.isoformat() if run.tick else None, list(params)]

@job
def gate():
    note(current().key)
    with open(os.path.join(HERE, "gate")) as file:
        return file.read()

@job
def fails():
    raise ValueError("not today")
"""
STEPS_OF = """
import os

def steps_of(companion):
    here = os.path.dirname(companion.settings["store"])

    def step(name):
        try:
            wanted = open(os.path.join(here, "stop-at")).read()
        except FileNotFoundError:
            return
        if wanted == name:
            open(os.path.join(here, "stopped"), "w").close()
            open(os.path.join(here, "never")).read()

    return step
"""
"""What a scheduler under test begins with: it stands at the step whose name is in the file ``stop-at`` beside its store, and says
so by the file ``stopped``."""


def daemon(folder: Path, scripts: str, pool: str = POOL, **arguments: Any) -> Daemon:
    """A daemon with these tables; the job ``gate`` waits for the pipe ``gate`` in its folder."""
    made = Daemon(folder, JOBS, parts={"top": scripts, "pool": pool}, **arguments)
    os.mkfifo(made.app / "gate")
    return made


def ran(served: Daemon) -> list[str]:
    """Keys of the runs whose code was begun, in that order."""
    return lines(served.app / "ran")


def wait_ran(served: Daemon, count: int, timeout: float = TIMEOUT) -> list[str]:
    """Wait until so many have been begun; ``timeout`` in seconds."""
    until(lambda: len(ran(served)) >= count, f"{count} runs of scripts", timeout=timeout)
    return ran(served)


def ticks(talk: Conversation, name: str, count: int = 1000) -> list[dict[str, Any]]:
    """What became of a script's ticks, the earliest first."""
    found: list[dict[str, Any]] = talk.rpc("schedule.show", name=name, count=count)["ticks"][::-1]
    return found


def open_gate(served: Daemon) -> None:
    """Let one run of ``gate`` that waits go on."""
    with open(served.app / "gate", "w") as gate:
        gate.write("open")


def scheduler(served: Daemon) -> int:
    """PID of the scheduler, once there is only one: that of a candidate which was refused takes a moment to leave."""
    found: list[int] = []

    def one() -> bool:
        found[:] = served.children("rocksyd: scheduler")
        return len(found) == 1

    until(one, "one scheduler to be left")
    return found[0]


__all__ = ["companion", "daemon", "error", "gone", "open_gate", "ran", "scheduler", "ticks", "until", "wait_ran", "wait_ready"]
