"""A real zygote with one case in it, and three workers that use it at once.

What must live here: the messages a master would send. What this file must not know: which library it is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

from rocksyd import messages
from rocksyd.config.starting import BOOT
from rocksyd.errors import ChannelClosed
from rocksyd.posix.channel import Channel, pair
from rocksyd.posix.processes import Command, start

APPLICATION = Path(__file__).with_name("application")
WORKERS = 3
LOADING, WORKING = 60.0, 40.0
"""Seconds that loading, and the workers' jobs, may take."""
AHEAD = 0.05


class Outcome(NamedTuple):
    """What became of one stage."""

    ok: bool
    text: str
    """The first thing that went wrong; "" for nothing."""
    left: tuple[str, ...] = ()
    """Threads and sockets for which the zygote would have been refused."""


def try_stage(python: Path, case: str, stage: str, ports: dict[str, int], log: Path) -> Outcome:
    """Load the case at this stage, fork three workers, let them use it at the same moment."""
    ours, theirs = pair()
    channel = Channel(ours)
    known = {f"FORK_{name.upper()}": str(port) for name, port in ports.items()}
    environment = {**os.environ, **known, "FORK_CASE": case, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    with log.open("ab") as output:
        output.write(f"--- {case}: {stage}\n".encode())
        output.flush()
        command = Command(
            argv=(str(python), BOOT, "zygote"),
            env=environment,
            cwd=str(APPLICATION),
            fds=(theirs.fileno(),),
            output=output.fileno(),
        )
        started = start(command)
    theirs.close()
    workers: list[tuple[int, Channel]] = []
    try:
        return _converse(channel, workers, stage, log)
    except ChannelClosed:
        return Outcome(False, "the zygote died")
    finally:
        for pid, worker in workers:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            worker.close()
        channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        os.waitpid(started.pid, 0)
        os.close(started.verdict)


def _converse(channel: Channel, workers: list[tuple[int, Channel]], stage: str, log: Path) -> Outcome:
    settings = {"unsafe": "warn", "grace": 1.0}
    channel.send(messages.Load("matrix", 1, str(APPLICATION), (f"stage:{stage}",), (), ("stage:use",), {}, settings))
    ready = channel.wait(LOADING)
    if not isinstance(ready, messages.Ready):
        return Outcome(False, f"not loaded: {ready.reason}" if isinstance(ready, messages.Failed) else "loading hangs")
    left = tuple(text for text in ready.warnings if " left a thread " in text or " left a socket " in text)
    for number in range(1, WORKERS + 1):
        channel.send(messages.Fork(worker=number, pool="main", slot=-1))
    while len(workers) < WORKERS:
        forked = channel.wait(WORKING)
        if isinstance(forked, messages.Forked):
            workers.append((forked.pid, Channel.from_fd(forked.fds[0])))
        elif forked is None or isinstance(forked, messages.ForkFailed):
            return Outcome(False, "no fork" if forked is None else forked.reason, left)
    begin = time.monotonic() + AHEAD
    for number, (_, worker) in enumerate(workers):
        worker.send(messages.Job(key=f"run-{number}", target="stage:use", params=[begin], log=str(log), last=True))
    return _results(workers, left)


def _results(workers: list[tuple[int, Channel]], left: tuple[str, ...]) -> Outcome:
    until = time.monotonic() + WORKING
    values: list[Any] = []
    problem = ""
    for _, worker in workers:
        found, value = _result(worker, until)
        problem = problem or found
        values.append(value)
    drawn = [tuple(value) for value in values if value is not None]
    if not problem and len(set(drawn)) < len(drawn):
        problem = "two processes drew the same random numbers"
    return Outcome(not problem, problem, left)


def _result(worker: Channel, until: float) -> tuple[str, Any]:
    try:
        while True:
            message = worker.wait(max(0.0, until - time.monotonic()))
            if message is None:
                return "hangs", None
            if isinstance(message, messages.Result):
                if message.error is None:
                    return "", message.value
                return _said(message.error), None
    except ChannelClosed:
        return "the worker died", None


def _said(error: dict[str, Any]) -> str:
    """What a worker's exception says, in a few words."""
    name = error["type"].rpartition(".")[2]
    name = "wrong answer" if name == "WrongAnswer" else name
    return f"{name}: {error['message']}".removesuffix(": ").replace("\n", " ")[:150]
