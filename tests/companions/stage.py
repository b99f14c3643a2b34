"""What the tests of companions share: a companion that does what the test tells it, and looking at what the daemon says of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rocksyd.testing import Daemon
from rocksyd.testing.daemon import Conversation, until
from tests.restart.stage import IDLE_POOL, JOBS, Gate

BELL = """
import json, os, signal, time
from rocksyd import messages as m
from rocksyd.companions import CannotAttend
from rocksyd.errors import RequestError

def serve(companion):
    here = companion.settings["folder"]
    def there(name):
        return os.path.exists(os.path.join(here, name))
    if there("cannot"):
        raise CannotAttend("the bell is broken: mend it")
    if there("raises"):
        raise ZeroDivisionError("no bell")
    if there("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if there("leaves"):
        return
    if there("hangs"):
        open(os.path.join(here, "hanging"), "w").close()
        while True:
            time.sleep(60)
    if there("starting"):
        open(os.path.join(here, "starting")).read()
    if there("refuses"):
        raise CannotAttend("the bell has cracked meanwhile")

    def ring(request):
        return {"pid": os.getpid(), "trusted": request.trusted, "address": request.address, "params": request.params}
    def gate(request):
        with open(request.params["path"]) as file:
            return {"pid": os.getpid(), "said": file.read()}
    def refuse(request):
        raise RequestError(-32010, "the bell is not rung at night", data={"until": 7})
    def fail(request):
        raise KeyError("clapper")
    def say(request):
        for text in request.params["texts"]:
            companion._channel.socket.send(text.encode())
        with open(os.path.join(here, "never")) as file:
            return file.read()
    def large(request):
        return "x" * request.params["bytes"]
    def twice(request):
        for _ in range(2):
            companion.say(m.Reply(request.params["number"], "twice"))
        return "thrice"
    for method, function in (("ring", ring), ("gate", gate), ("refuse", refuse), ("fail", fail), ("say", say), ("large", large),
                             ("twice", twice)):
        companion.method("bell." + method, function, summary="Does " + method, params=[{"name": "path", "schema": {}}])
    companion.method("bell.secret", ring, trusted=True)
    leave = companion.leave
    def told_by_term():
        open(os.path.join(here, "asked"), "w").close()
        leave()
    companion.leave = told_by_term
    companion.ready()
    companion.serve()
    if there("stays"):
        while True:
            time.sleep(60)
"""
TABLE = """
[companions.bell]
target = "bell:serve"
path = "."
namespace = "bell"
{more}
[companions.bell.settings]
folder = {folder}
"""
METRICS = '\n[metrics]\nlisten = ["http://127.0.0.1:0"]\n'


def daemon(folder: Path, more: str = "", top: str = "", **arguments: Any) -> Daemon:
    """A daemon with the companion ``bell``; ``more``: lines of its table, ``top``: other tables."""
    (folder / "bell.py").write_text(BELL)
    os.mkfifo(folder / "never")
    table = TABLE.format(more=more, folder=json.dumps(str(folder)))
    return Daemon(folder, JOBS, parts={"top": table + top, "pool": IDLE_POOL}, **arguments)


def companion(talk: Conversation, name: str = "bell") -> dict[str, Any]:
    """The row of ``health``."""
    row: dict[str, Any] = next(row for row in talk.rpc("health")["companions"] if row["name"] == name)
    return row


def wait_ready(talk: Conversation, name: str = "bell", *, other_than: int = 0) -> int:
    """Wait until it is ready, and not the process ``other_than``; returns its PID."""
    until(lambda: (row := companion(talk, name))["state"] == "ready" and row["pid"] != other_than, f"{name} to be ready")
    pid: int = companion(talk, name)["pid"]
    return pid


def gone(pid: int) -> None:
    """Wait until a process has been reaped."""
    until(lambda: not os.path.exists(f"/proc/{pid}"), f"the end of process {pid}")


def ended(pid: int) -> None:
    """Wait until a process has ended that is no child of the daemon's any longer: nobody here knows who reaps it, and when."""
    until(lambda: not os.path.exists(f"/proc/{pid}/exe"), f"the end of process {pid}")


def error(talk: Conversation, method: str, **params: Any) -> dict[str, Any]:
    """The error of a call that is refused."""
    reply = talk.ask(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
    found: dict[str, Any] = reply["error"]
    return found


__all__ = ["IDLE_POOL", "JOBS", "METRICS", "Gate", "companion", "daemon", "ended", "error", "gone", "wait_ready"]
