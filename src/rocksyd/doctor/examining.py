"""The process that loads the application for `rocksyd doctor`: started as the daemon starts a zygote, waited for, cleared away.

What must live here: that process and its report. What this file must not know: what the report means.
"""

from __future__ import annotations

import json
import os
import select
import signal
from typing import Any

from rocksyd import messages
from rocksyd.config import AppConfig, starting
from rocksyd.errors import ConfigError
from rocksyd.exit_status import describe
from rocksyd.posix.channel import memfd, read_memfd
from rocksyd.posix.processes import Command, failure, start

NOW_SIZE = 4096
_MEASURING = 120.0
"""Seconds that the measurements behind the loading may take."""
_LIBRARY_FIELDS = ("distribution", "objects")


def examine(
    app: AppConfig, libraries: dict[str, dict[str, Any]], load_timeout: float, run: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Load ``app`` in a process of its own and return what that process says, by the kind of its parts.

    Neither the daemon nor its folder is touched. What the application prints goes to standard error. The part ``ended`` is there
    when the process did not come to the end of its report: ``how``, ``timeout``, ``importing``.

    Args:
        app: its settings; a warning takes the place of a refusal, so that everything is seen.
        libraries: the knowledge on libraries.
        load_timeout: seconds that loading may take.
        run: ``target`` and ``params`` of a job to run once.

    Raises:
        ConfigError: the interpreter cannot be started.
    """
    name, fields = json.loads(messages.encode(starting.order_to_load(app, 0))[0])
    fields["settings"]["unsafe"] = "warn"
    known = {name: {field: entry[field] for field in _LIBRARY_FIELDS} for name, entry in libraries.items()}
    order = memfd("order", json.dumps({"load": [name, fields], "libraries": known, "run": run}).encode())
    report = os.memfd_create("report", os.MFD_CLOEXEC)
    now = os.memfd_create("now", os.MFD_CLOEXEC)
    try:
        command = Command(
            argv=starting.command(app, "doctor"),
            env=starting.environment(app, os.environ),
            cwd=app.path,
            fds=(order, report, now),
            output=2,
        )
        ended = _run(command, report, load_timeout)
        found = _parts(report)
        if "done" not in found and "failed" not in found:
            found["ended"] = {**ended, "importing": os.pread(now, NOW_SIZE, 0).rstrip(b"\0").decode("utf-8", "replace")}
        return found
    finally:
        for fd in (order, report, now):
            os.close(fd)


def _run(command: Command, report: int, load_timeout: float) -> dict[str, Any]:
    """Start it and wait for its end, whatever that is; nothing of its process group is left behind."""
    started = start(command)
    handle = os.pidfd_open(started.pid)
    over = False
    try:
        over = _ends(handle, load_timeout) or (b'"kind": "loaded"' in read_memfd(report) and _ends(handle, _MEASURING))
    finally:
        _kill_group(started.pid)
        _, status = os.waitpid(started.pid, 0)
        os.close(handle)
        verdict = os.read(started.verdict, 4096)
        os.close(started.verdict)
    if verdict:
        raise ConfigError(failure(command, verdict))
    return {"how": describe(status), "timeout": not over}


def _ends(handle: int, within: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(within * 1000))


def _kill_group(leader: int) -> None:
    """The leader is not reaped yet, so the number is still its own; it may not have made its group yet."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(leader, signal.SIGKILL)


def _parts(report: int) -> dict[str, Any]:
    """The lines of the report by their kind; of several of one kind the last. A line that was cut off is no line."""
    found: dict[str, Any] = {}
    for line in read_memfd(report).split(b"\n"):
        try:
            part = json.loads(line)
        except ValueError:
            continue
        found[part.pop("kind")] = part
    return found
